//! The parts of `pgha_ctl::net` that need a network, each against the kernels at both of its ends.
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::libc;
use nix::net::if_::if_nametoindex;
use pgha_ctl::net::raw::{RawError, RawSender};
use pgha_ctl::net::realserver::{self, RealServerError};
use pgha_ctl::net::vip::{self, Claim, Claims, User};
use pgha_ctl::net::{Change, IfIndex, Interface, NeighbourWatch, Netlink, local_addresses};
use pgha_machine::Mac;
use pgha_tests::lab::{Host, Lab, SOON, wait_for};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 100));
const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100));
const FREE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x200)),
];
/// As long as a start of the controller waits for other users of a VIP.
const PATIENCE: Duration = Duration::from_millis(600);

/// Hosts, as many as names.
fn hosts<const N: usize>(lab: &Lab, names: [&str; N]) -> Result<[Host; N]> {
    lab.hosts(&names)?.try_into().ok().context("as many hosts as names")
}

/// Without the wait for another user of the address.
fn give(host: &Host, address: &str, interface: &str) -> Result<()> {
    let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
    let command = host.command(["ip", "address", "add", address, "dev", interface])?;
    command.args(nodad).run().map(drop)
}

fn mac_of(host: &Host) -> Mac {
    Mac::new(host.mac()).expect("a host's MAC")
}

/// Runs a future in a host's network namespace, on a runtime of its own.
pub(crate) fn on<T: Send>(host: &Host, task: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    host.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(SOON, task()).await })?
    })
}

async fn eth0() -> Result<Interface> {
    Ok(Interface::find(Netlink::connect()?.handle(), "eth0").await?)
}

#[test]
fn netns_vip_is_probed_and_announced_in_both_families() -> Result<()> {
    let lab = Lab::new()?;
    let [director, user, client] = hosts(&lab, ["lb1", "db1", "client"])?;
    for (vip, network) in [(VIP, "24"), (VIP6, "64")] {
        give(&user, &format!("{vip}/{network}"), "eth0")?;
    }
    on(&director, async || {
        let eth0 = eth0().await?;
        eth0.usable_for(&[VIP, VIP6])?;
        for vip in [VIP, VIP6] {
            let answers = User { mac: mac_of(&user), asks: false };
            assert_eq!(vip::probe(&eth0, vip, PATIENCE).await?, Some(answers), "{vip}");
        }
        for free in FREE {
            assert_eq!(vip::probe(&eth0, free, PATIENCE).await?, None, "{free}");
        }
        Ok(())
    })?;

    // Who knows another MAC takes the new one over.
    let known = |mac: Mac, vip: IpAddr| {
        wait_for(format_args!("{vip} at {mac}"), SOON, || {
            let entry = client.run(["ip", "neigh", "show", &vip.to_string()])?;
            ensure!(entry.contains(&mac.to_string()), "{entry}");
            Ok(Some(()))
        })
    };
    for vip in [VIP, VIP6] {
        client.inside(|| Ok(TcpStream::connect_timeout(&(vip, 9).into(), SOON).err()))?;
        known(mac_of(&user), vip)?;
    }
    // The kernel holds on to a MAC that was confirmed within the last second (locktime in arp(7)).
    client.run(["sh", "-c", "echo 0 > /proc/sys/net/ipv4/neigh/eth0/locktime"])?;
    on(&director, async || {
        let eth0 = eth0().await?;
        for vip in [VIP, VIP6] {
            vip::announce(&eth0, vip)?;
        }
        Ok(())
    })?;
    known(mac_of(&director), VIP)?;
    known(mac_of(&director), VIP6)
}

#[test]
fn netns_claims_of_others_are_heard() -> Result<()> {
    let lab = Lab::new()?;
    let [director, other] = hosts(&lab, ["lb1", "lb2"])?;
    on(&director, async || {
        let eth0 = eth0().await?;
        let mut claims = Claims::open(&eth0, [VIP, VIP6])?;
        let groups = || fs::read_to_string("/proc/thread-self/net/igmp6");
        assert!(groups()?.contains(VIP6_GROUP), "{}", groups()?);
        for vip in [VIP, VIP6, VIP] {
            // Its own, one of another VLAN, and those that are of no VIP, are passed over.
            vip::announce(&eth0, vip)?;
            other.frames()?.send(&tagged_claim())?;
            on(&other, async || {
                let eth0 = self::eth0().await?;
                for address in FREE.into_iter().chain([vip]) {
                    vip::announce(&eth0, address)?;
                }
                Ok(())
            })?;
            assert_eq!(claims.next().await?, Claim { vip, mac: mac_of(&other) });
        }
        // An interface that was down is heard again.
        director.run(["ip", "link", "set", "eth0", "down"])?;
        director.run(["ip", "link", "set", "eth0", "up"])?;
        assert!(groups()?.contains(VIP6_GROUP), "{}", groups()?);
        for vip in [VIP, VIP6] {
            on(&other, async || Ok(vip::announce(&self::eth0().await?, vip)?))?;
            assert_eq!(claims.next().await?, Claim { vip, mac: mac_of(&other) });
        }
        drop(claims);
        // Not at once: a child that another test forks keeps the socket until it executes.
        wait_for("the group to be left", SOON, || {
            let joined = groups()?;
            ensure!(!joined.contains(VIP6_GROUP), "{joined}");
            Ok(Some(()))
        })
    })
}

/// The solicited-node group of [`VIP6`] as the kernel writes it.
const VIP6_GROUP: &str = "ff0200000000000000000001ff000100";

/// A gratuitous ARP request for [`VIP`] in VLAN 5.
fn tagged_claim() -> Vec<u8> {
    let mac = [2, 0, 0, 0, 0, 9];
    let vip = [10, 77, 0, 100];
    let headers = [0x81, 0, 0, 5, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    [&[0xff; 6][..], &mac, &headers, &mac, &vip, &[0; 6], &vip].concat()
}

#[test]
fn netns_raw_packets_leave_with_a_foreign_source() -> Result<()> {
    let lab = Lab::new()?;
    let [director, client] = hosts(&lab, ["lb1", "client"])?;
    let sender = director.inside(|| Ok(RawSender::open()?))?;
    // A client may also be on the director itself.
    for host in [&client, &director] {
        let to: [IpAddr; 2] = [host.address().into(), host.address6().into()];
        for (vip, to) in [VIP, VIP6].into_iter().zip(to) {
            let receiver = host.inside(|| Ok(UdpSocket::bind((to, 7000))?))?;
            receiver.set_read_timeout(Some(SOON))?;
            sender.send(&datagram(vip, to, b"hello"), to)?;
            let mut buffer = [0; 16];
            let (length, from) = receiver.recv_from(&mut buffer)?;
            assert_eq!((&buffer[..length], from), (&b"hello"[..], (vip, 7001).into()));
        }
    }
    let to: [IpAddr; 2] = [client.address().into(), client.address6().into()];
    for (vip, to) in [VIP, VIP6].into_iter().zip(to) {
        let long = sender.send(&datagram(vip, to, &[0; 3000]), to).unwrap_err();
        assert!(matches!(long, RawError::TooLong { .. }), "{long}");
    }
    for (vip, nowhere) in [(VIP, "192.0.2.1"), (VIP6, "2001:db8::1")] {
        let nowhere = nowhere.parse()?;
        let error = sender.send(&datagram(vip, nowhere, b"hello"), nowhere).unwrap_err();
        assert!(matches!(error, RawError::Unreachable { .. }), "{error}");
    }
    Ok(())
}

/// A UDP datagram from port 7001 of one address to port 7000 of the other.
fn datagram(from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    use etherparse::PacketBuilder;
    let udp = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            PacketBuilder::ipv4(from.octets(), to.octets(), 64).udp(7001, 7000)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            PacketBuilder::ipv6(from.octets(), to.octets(), 64).udp(7001, 7000)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("{from} and {to} are of one family")
        }
    };
    let mut packet = Vec::new();
    udp.write(&mut packet, payload).expect("a vector takes everything");
    packet
}

#[test]
fn netns_neighbours_of_both_families_on_several_interfaces() -> Result<()> {
    let lab = Lab::new()?;
    let [director, db1] = hosts(&lab, ["lb1", "db1"])?;
    director.run(["ip", "link", "add", "side", "type", "veth", "peer", "name", "far"])?;
    for end in ["side", "far"] {
        director.run(["ip", "link", "set", end, "up"])?;
    }
    let index = |interface: &str| -> Result<IfIndex> {
        let index = director.inside(|| Ok(if_nametoindex(interface)?))?;
        IfIndex::new(index).context("an index")
    };
    let (eth0, side) = (index("eth0")?, index("side")?);
    on(&director, async || {
        let mut watch = NeighbourWatch::new(&[eth0, side])?;
        let wanted = [IpAddr::from(db1.address()), db1.address6().into()];
        for address in wanted {
            watch.resolve(eth0, address).await?;
        }
        director.run(["ip", "neigh", "add", "10.88.0.1", "lladdr", SIDE, "dev", "side"])?;
        director.run(["ip", "neigh", "add", "fd88::1", "lladdr", SIDE, "dev", "side"])?;
        let there = [IpAddr::from([10, 88, 0, 1]), "fd88::1".parse()?];
        let mut missing: BTreeSet<_> = wanted.map(|a| (eth0, a, mac_of(&db1))).into();
        missing.extend(there.map(|a| (side, a, SIDE.parse().expect("a MAC"))));
        let mut up = BTreeSet::from([eth0, side]);
        while !missing.is_empty() || !up.is_empty() {
            match watch.next().await? {
                Change::Neighbour(event) => {
                    let mac = event.mac.context("a MAC")?;
                    missing.remove(&(event.interface, event.address, mac));
                }
                Change::Interface { index, up: true, .. } => {
                    up.remove(&index);
                }
                change @ (Change::Interface { .. } | Change::InterfaceGone(_)) => {
                    bail!("{change:?}")
                }
            }
        }
        director.run(["ip", "link", "del", "side"])?;
        let mut gone = BTreeSet::new();
        loop {
            match watch.next().await? {
                Change::InterfaceGone(index) => {
                    assert_eq!((index, &gone), (side, &there.into()));
                    return Ok(());
                }
                Change::Neighbour(event) if event.interface == side => {
                    assert_eq!(event.mac, None);
                    gone.insert(event.address);
                }
                Change::Neighbour(_) | Change::Interface { .. } => {}
            }
        }
    })
}

const SIDE: &str = "02:00:00:00:00:01";

#[test]
fn netns_realserver_of_ipv6_is_quiet_and_serves() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, client] = hosts(&lab, ["db1", "client"])?;
    let state = lab.directory().join("realserver");
    let settings = || db1.run(["ip", "-o", "address", "show", "dev", "lo"]);
    let before = settings()?;
    let report = on(&db1, async || Ok(realserver::setup(&[VIP6], &state).await?))?;
    assert_eq!(report.to_string(), format!("added {VIP6}/128 to lo"));
    let addresses = db1.run(["ip", "-6", "-o", "address", "show", "dev", "lo"])?;
    let shown = addresses.lines().find(|line| line.contains("fd77::100/128"));
    ensure!(shown.is_some_and(|line| line.contains("deprecated")), "{addresses}");
    ensure!(!addresses.contains("tentative"), "{addresses}");

    // Nobody is told where the VIP is, but who knows it is served.
    let connect = || client.inside(|| Ok(TcpStream::connect_timeout(&(VIP6, 7000).into(), SOON)));
    let _listener = db1.inside(|| Ok(TcpListener::bind((VIP6, 7000))?))?;
    let error = connect()?.expect_err("nobody answers for the VIP");
    assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH), "{error}");
    let (vip, mac) = (VIP6.to_string(), mac_of(&db1).to_string());
    client.run(["ip", "neigh", "replace", &vip, "lladdr", &mac, "dev", "eth0"])?;
    connect()??;
    on(&db1, async || {
        assert!(local_addresses(Netlink::connect()?.handle()).await?.contains(&VIP6));
        Ok(())
    })?;

    // One of two is kept, and what the other needed besides is taken back.
    let quiet = || db1.run(["cat", "/proc/sys/net/ipv4/conf/all/arp_ignore"]);
    on(&db1, async || Ok(realserver::setup(&[VIP, VIP6], &state).await?))?;
    ensure!(quiet()?.trim() == "1");
    let report = on(&db1, async || Ok(realserver::undo_but(&[VIP6], &state).await?))?.to_string();
    assert!(report.starts_with(&format!("removed {VIP}/32 from lo\nrestored ")), "{report}");
    ensure!(quiet()?.trim() == "0" && !settings()?.contains(&VIP.to_string()));
    assert_eq!(on(&db1, async || Ok(realserver::recorded(&state)?))?, [VIP6]);

    let report = on(&db1, async || Ok(realserver::undo(&state).await?))?;
    assert_eq!(report.to_string(), format!("removed {VIP6}/128 from lo"));
    assert_eq!(settings()?, before);

    db1.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6"])?;
    let refused = on(&db1, async || Ok(realserver::setup(&[VIP6], &state).await))?;
    assert!(matches!(refused, Err(RealServerError::Ipv6Off { value: 1 })), "{refused:?}");
    Ok(())
}
