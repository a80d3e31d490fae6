//! The kernel, and what this process may ask of it.

use pgha_common::maps::SCHEMA;

use super::BPFFS;
use crate::bpf::kernel::{OLDEST, Version};
use crate::bpf::xdp::Pinned;
use crate::check::facts::Facts;
use crate::check::{Check, about};
use crate::config::{Config, Director};

/// Bytes that an entry of a flow table takes, by address family: `memlock` of the map as Linux 6.18 reports
/// it, divided by its entries, rounded up.
const FLOW: u64 = 88;
const FLOW_IPV6: u64 = 113;

pub(super) fn judge(config: &Config, facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        version(facts),
        capabilities(facts),
        features(facts),
        bpffs(config.director(), facts),
        data_plane(facts),
        controller(facts),
        memory(config, facts),
    ];
    checks.extend(jit(facts));
    checks.extend(btf(facts));
    checks
}

fn version(facts: &Facts) -> Check {
    let check = about("kernel", "", "Linux has what the XDP program needs");
    let found = facts.kernel.release.clone();
    let Version(major, minor) = OLDEST;
    match facts.kernel.version {
        Some(version) if version >= OLDEST => check.ok(found),
        Some(_) => check
            .fail(found)
            .wanted(format!("{major}.{minor} or later"))
            .mend("install a newer kernel"),
        None => check.skipped(format!("{found:?} is no version of Linux")),
    }
}

fn capabilities(facts: &Facts) -> Check {
    let check = about("capabilities", "", "this user may do what a controller does");
    match &facts.missing {
        Ok(missing) if missing.is_empty() => check.ok("all of them"),
        Ok(missing) => {
            let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
            let found = format!("missing {}", names.join(", "));
            let mend = format!(
                "run pgha as root, or give its service these: AmbientCapabilities={}",
                names.join(" ")
            );
            // Who may not look is not necessarily who is to balance.
            if facts.controller.is_ok() {
                check.warn(format!("{found}; the controller that runs here has them")).mend(mend)
            } else {
                check.fail(found).mend(mend)
            }
        }
        Err(why) => check.skipped(why),
    }
}

fn features(facts: &Facts) -> Check {
    let check = about("bpf-features", "", "the kernel has the maps and programs of the data plane");
    match &facts.kernel.missing {
        Ok(missing) if missing.is_empty() => check.ok("all of them"),
        Ok(missing) => check
            .fail(format!("no {}", missing.join(", no ")))
            .mend("use a kernel that is built with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS=y"),
        Err(why) => check.skipped(why),
    }
}

fn bpffs(director: &Director, facts: &Facts) -> Check {
    let path = director.bpffs().display();
    let check = about(BPFFS, path.to_string(), "a BPF file system is mounted");
    if facts.bpffs {
        return check.ok("mounted");
    }
    check.fail("nothing, or another file system").mend(format!("mount -t bpf bpf {path}")).fixable()
}

fn data_plane(facts: &Facts) -> Check {
    let check = about("data-plane", "", "what is pinned can be gone on with");
    match &facts.pinned {
        None => check.skipped("no BPF file system"),
        Some(Err(why)) => check.fail(why),
        Some(Ok(Pinned::Nothing)) => check.ok("nothing is pinned: a controller would begin anew"),
        Some(Ok(Pinned::Ours { older: false, .. })) => {
            check.ok(format!("schema {SCHEMA}, as this pgha has it"))
        }
        Some(Ok(Pinned::Ours { older: true, .. })) => check.ok(format!(
            "an older schema: the next start of a controller takes it over to {SCHEMA}, with its flows"
        )),
    }
}

fn controller(facts: &Facts) -> Check {
    let check = about("controller", "", "a controller runs on this node");
    match &facts.controller {
        Ok(status) if status.director.attached => {
            check.ok(format!("pid {}, {}", status.director.pid, status.director.role))
        }
        Ok(status) => check.warn(format!(
            "pid {} is starting: it has not attached its program yet",
            status.director.pid
        )),
        Err(why) if matches!(facts.pinned, Some(Ok(Pinned::Ours { .. }))) => check
            .warn(format!(
                "its data plane serves by the last maps, and nobody follows changes: {why}"
            ))
            .mend("start it: pgha controller"),
        Err(why) => check.skipped(why),
    }
}

/// The tables of flows take their memory when they are made. (Since Linux 5.11 that counts against the
/// control group and no more against `ulimit -l`.)
fn memory(config: &Config, facts: &Facts) -> Check {
    let check = about("memory", "", "the flow tables have room in memory");
    if matches!(facts.pinned, Some(Ok(Pinned::Ours { .. }))) {
        return check.ok("the tables are there");
    }
    let director = config.director();
    let ipv4 = u64::from(director.flows()) + u64::from(director.pending_flows());
    let ipv6 = u64::from(director.flows_ipv6()) + u64::from(director.pending_flows_ipv6());
    let wanted = (ipv4 * FLOW + ipv6 * FLOW_IPV6) / 1024;
    let Some(available) = facts.kernel.available else {
        return check.skipped("/proc/meminfo does not say what is available");
    };
    let found = format!("{} MB available, {} MB needed", available / 1024, wanted / 1024);
    if available > wanted {
        return check.ok(found);
    }
    check.fail(found).mend("give director.flows a smaller number, or the node more memory")
}

fn jit(facts: &Facts) -> Option<Check> {
    let check = about("bpf-jit", "", "BPF programs run as machine code");
    match facts.kernel.jit? {
        true => Some(check.ok("net.core.bpf_jit_enable is not 0")),
        false => Some(
            check
                .warn("net.core.bpf_jit_enable = 0: every frame is interpreted, which costs throughput")
                .mend("sysctl -w net.core.bpf_jit_enable=1, and a file in /etc/sysctl.d"),
        ),
    }
}

fn btf(facts: &Facts) -> Option<Check> {
    let check = about("btf", "", "the kernel tells its types");
    (!facts.kernel.btf).then(|| {
        check.warn(
            "no /sys/kernel/btf/vmlinux: pgha runs without, bpftool shows its maps as bare bytes",
        )
    })
}
