//! The window in the wall: what the kernel half and the agent both know.
#![no_std]
