//! Rendering the metrics once for all who ask at the same time. Every scrape gets what was rendered after it came; who comes
//! while a rendering is under way shares the next one, so that a thousand scrapes at once cost two, and one text in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::gzip;
use super::spare::Spare;

/// One for plain text and one for compressed.
#[derive(Clone, Debug, Default)]
pub(super) struct Scrapes {
    plain: Arc<Last>,
    zipped: Arc<Last>,
    spare: Arc<Spare>,
}

#[derive(Debug, Default)]
struct Last {
    /// When it was begun, and what came out; kept only while somebody waits for it.
    text: Mutex<Option<(Instant, Bytes)>>,
    waiting: AtomicUsize,
}

impl Scrapes {
    /// The text that `render` makes, compressed if `zip`.
    pub(super) async fn text(
        &self,
        zip: bool,
        render: impl FnOnce(String) -> String + Send + 'static,
    ) -> io::Result<Bytes> {
        let spare = Arc::clone(&self.spare);
        let last = Arc::clone(if zip { &self.zipped } else { &self.plain });
        last.waiting.fetch_add(1, Ordering::Relaxed);
        // A task of its own, which comes to its end also if its client goes: renderings never run side by side.
        tokio::spawn(async move {
            let came = Instant::now();
            let mut text = last.text.lock().await;
            let shared = text.as_ref().filter(|(begun, _)| *begun >= came).map(|(_, bytes)| bytes.clone());
            let result = if let Some(bytes) = shared {
                Ok(bytes)
            } else {
                let begun = Instant::now();
                let rendered = tokio::task::spawn_blocking(move || {
                    let text = Spare::hold(&spare, render);
                    if zip {
                        gzip::compress(text.as_str()).map(Bytes::from)
                    } else {
                        Ok(Bytes::from_owner(text))
                    }
                });
                let rendered = rendered.await.map_err(io::Error::other).and_then(|result| result);
                *text = rendered.as_ref().ok().map(|bytes| (begun, bytes.clone()));
                rendered
            };
            if last.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
                *text = None;
            }
            result
        })
        .await
        .map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_thousand_at_once_cost_few_and_each_is_fresh() {
        let (scrapes, times) = (Scrapes::default(), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let (scrapes, times) = (scrapes.clone(), Arc::clone(&times));
            async move {
                let before = times.load(Ordering::Relaxed);
                let render = move |_room| {
                    std::thread::sleep(Duration::from_millis(5));
                    times.fetch_add(1, Ordering::Relaxed).to_string()
                };
                let text = scrapes.text(false, render).await.unwrap();
                // Begun after it was asked for.
                assert!(std::str::from_utf8(&text).unwrap().parse::<usize>().unwrap() >= before);
            }
        };
        futures_util::future::join_all((0..1000).map(|_| ask())).await;
        assert!(times.load(Ordering::Relaxed) <= 3, "{times:?} renderings");
        for _ in 0..3 {
            let before = times.load(Ordering::Relaxed);
            ask().await;
            assert_eq!(times.load(Ordering::Relaxed), before + 1);
        }
        assert!(scrapes.plain.text.lock().await.is_none(), "the text is kept for nobody");
    }
}
