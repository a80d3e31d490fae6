//! Classic BPF, as sockets take it (Documentation/networking/filter.rst).

use nix::libc;
use socket2::SockFilter;

/// Takes a value from the frame, or refuses or admits it.
pub(super) fn statement(code: u32, value: usize) -> SockFilter {
    SockFilter::new(opcode(code), 0, 0, u32::try_from(value).unwrap_or(u32::MAX))
}

/// Goes on so many instructions further, by a test of what was taken last.
pub(super) fn jump(test: u32, value: impl Into<u32>, if_true: u8, if_false: u8) -> SockFilter {
    let code = opcode(libc::BPF_JMP | test | libc::BPF_K);
    SockFilter::new(code, if_true, if_false, value.into())
}

fn opcode(code: u32) -> u16 {
    u16::try_from(code).unwrap_or(u16::MAX)
}

/// The kernel's own answer: filters work on every kind of socket.
#[cfg(test)]
pub(super) fn admits(filter: &[SockFilter], frame: &[u8]) -> bool {
    use std::os::fd::AsRawFd as _;

    use nix::sys::socket::{MsgFlags, recv};
    use socket2::{Domain, Socket, Type};

    let (sender, receiver) = Socket::pair(Domain::UNIX, Type::DGRAM.nonblocking(), None).unwrap();
    receiver.attach_filter(filter).unwrap();
    sender.send(frame).unwrap();
    let mut buffer = [0; 4096];
    match recv(receiver.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Ok(length) => {
            assert_eq!(&buffer[..length], frame);
            true
        }
        Err(errno) => {
            assert_eq!(errno, nix::errno::Errno::EAGAIN);
            false
        }
    }
}
