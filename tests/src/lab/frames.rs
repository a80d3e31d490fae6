//! Raw Ethernet frames, sent and received by a test as a host.
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// The longest frame read, in bytes: far above any MTU of the lab.
const LONGEST: usize = 16 * 1024;

/// A packet socket on one interface; it sees what arrives there and not what leaves.
///
/// The kernel takes an 802.1Q tag out of the frame before a packet socket sees it.
#[derive(Debug)]
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens one in the network namespace of the calling thread.
    pub(super) fn open(interface: &str) -> Result<Self> {
        let fd = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .context("packet socket")?;
        ignore_outgoing(&fd).context("PACKET_IGNORE_OUTGOING")?;
        bind(fd.as_raw_fd(), &link_address(interface)?)
            .with_context(|| format!("bind to {interface}"))?;
        Ok(Self(fd))
    }

    /// Sends one frame, from its destination address to the end of its payload.
    ///
    /// # Errors
    /// When the interface is down or the frame too long for it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = send(self.0.as_raw_fd(), frame, MsgFlags::empty()).context("send a frame")?;
        if sent != frame.len() {
            bail!("{sent} of the {} bytes of a frame were sent", frame.len());
        }
        Ok(())
    }

    /// Has the kernel keep that many bytes of frames until they are received, with what it needs for
    /// each of them itself.
    ///
    /// # Errors
    /// Without the right to.
    pub fn buffer(&self, bytes: usize) -> Result<()> {
        setsockopt(&self.0, sockopt::RcvBufForce, &bytes).context("SO_RCVBUFFORCE")
    }

    /// The next frame that `wanted` accepts.
    ///
    /// # Errors
    /// When none arrives by the deadline.
    pub fn receive(
        &self,
        deadline: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Result<Vec<u8>> {
        let end = Instant::now() + deadline;
        let mut seen = 0;
        let mut frame = vec![0; LONGEST];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // A timeout of zero would mean none.
            let timeout = TimeVal::new(
                left.as_secs().try_into()?,
                libc::suseconds_t::from(left.subsec_micros().max(1)),
            );
            setsockopt(&self.0, sockopt::ReceiveTimeout, &timeout)?;
            match recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) if wanted(&frame[..length]) => {
                    frame.truncate(length);
                    return Ok(frame);
                }
                Ok(_) => seen += 1,
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("receive a frame"),
            }
            if Instant::now() >= end {
                bail!("no such frame within {deadline:?}; {seen} others arrived");
            }
        }
    }
}

fn link_address(interface: &str) -> Result<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.try_into()?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL)?.to_be(),
        sll_ifindex: if_nametoindex(interface)?.try_into()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>().try_into()?;
    // SAFETY: the pointer is to a whole sockaddr_ll, and its length is given.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }
        .context("a link-layer address")
}

fn ignore_outgoing(fd: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to an int that outlives the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
