//! `parachute-stub`: the program that enters containers. It is carried by the agent, started by a launcher with its socket
//! as standard input, and for nobody else. It has the C library's start and no standard library's.
#![no_std]
#![no_main]
#![allow(unsafe_code, reason = "a program's entry is a symbol; DESIGN, law 4")]

use core::ffi::{c_char, c_int};

// SAFETY: the C library calls this one symbol of the name once, on the process's only thread.
#[unsafe(no_mangle)]
extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    c_int::from(agent_stub::serve().is_err())
}

/// Nothing here panics on purpose. What would otherwise go on in a half-made state ends, and the launcher sees the process go.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends the process, whichever of spawner, stub and command it is.
    unsafe { libc::abort() }
}
