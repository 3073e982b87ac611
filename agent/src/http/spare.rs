//! The room of the last scrape's text, kept for the next one. A thousand containers make megabytes of text; an allocator hands
//! such a piece to each thread that has ever rendered one and gives none of it back, so there is one here for all.

use std::sync::{Arc, Mutex, PoisonError};

/// Larger ones are given back: a node of thousands of containers with hundreds of series each is worth its allocations.
const MOST: usize = 16 << 20;

/// At most one text that is needed no more.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<String>);

/// A text in use; its room goes back when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    text: String,
    spare: Arc<Spare>,
}

impl Spare {
    /// What `write` makes in the room, or in one of its own while another text has it.
    pub(super) fn hold(spare: &Arc<Self>, write: impl FnOnce(String) -> String) -> Held {
        let room = std::mem::take(&mut *spare.0.lock().unwrap_or_else(PoisonError::into_inner));
        Held { text: write(room), spare: Arc::clone(spare) }
    }
}

impl Held {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        // After many containers have gone, their room goes too.
        let fits = text.capacity() <= MOST && text.capacity() / 2 <= text.len();
        if fits {
            *self.spare.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(size: usize) -> impl Fn(String) -> String {
        move |mut room: String| {
            room.clear();
            room.extend(std::iter::repeat_n('x', size));
            room
        }
    }

    fn room(spare: &Spare) -> usize {
        spare.0.lock().unwrap().capacity()
    }

    #[test]
    fn the_room_of_a_text_is_the_next_ones() {
        let spare = Arc::default();
        let first = Spare::hold(&spare, write(1000));
        let place = first.as_str().as_ptr();
        drop(first);
        let second = Spare::hold(&spare, write(900));
        assert_eq!((second.as_str().as_ptr(), second.as_ref().len()), (place, 900));
        // While it is in use the next has a room of its own, and one of them stays.
        let third = Spare::hold(&spare, write(10));
        assert_ne!(third.as_str().as_ptr(), place);
        drop((second, third));
        assert!(room(&spare) > 0);
    }

    #[test]
    fn what_is_far_too_large_is_given_back() {
        let spare = Arc::default();
        drop(Spare::hold(&spare, write(10_000)));
        assert!(room(&spare) >= 10_000);
        drop(Spare::hold(&spare, write(100)));
        assert_eq!(room(&spare), 0);
        drop(Spare::hold(&spare, write(MOST + 1)));
        assert_eq!(room(&spare), 0);
    }
}
