//! The device rule of observers' cgroups: the kernel asks it at every open and every mknod of a node by a process of
//! theirs. It knows the devices of an observer's own root, and refuses all others.
//!
//! | used                  | in the kernel since |
//! | --------------------- | ------------------- |
//! | cgroup device program | 4.15                |
#![no_std]
#![no_main]
#![allow(
    unsafe_code,
    reason = "the context is a pointer of the kernel's; what the compiler cannot check, the verifier does"
)]

use agent_ebpf::{MEMORY_DEVICES, OBSERVERS_MINORS};
use aya_ebpf::bindings::{BPF_DEVCG_ACC_MKNOD, BPF_DEVCG_DEV_CHAR};
use aya_ebpf::macros::cgroup_device;
use aya_ebpf::programs::DeviceContext;

#[cgroup_device]
fn observers_devices(context: DeviceContext) -> i32 {
    // SAFETY: the kernel's own, which lives as long as this call.
    let (kind, major, minor) = unsafe {
        let asked = &*context.device;
        (asked.access_type, asked.major, asked.minor)
    };
    // The lower half is the kind of node, the upper one what is to be done with it (linux/bpf.h, bpf_cgroup_dev_ctx).
    let (node, access) = (kind & 0xffff, kind >> 16);
    let known = node == BPF_DEVCG_DEV_CHAR && major == MEMORY_DEVICES && OBSERVERS_MINORS.contains(&minor);
    i32::from(known && access & BPF_DEVCG_ACC_MKNOD == 0)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics, and the verifier refuses a program that could get here: it would loop for ever.
    loop {}
}

/// As in the other program.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
