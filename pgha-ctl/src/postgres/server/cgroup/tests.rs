use std::path::PathBuf;

use super::locate;

const UNIFIED: &str = "\
23 1 0:21 / / rw,relatime - ext4 /dev/vda rw
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
";

#[test]
fn the_own_cgroup_is_where_the_hierarchy_is_mounted() {
    let member = "9:name=systemd:/\n0::/system.slice/pgha-agent.service\n";
    let at = "/sys/fs/cgroup/unified/system.slice/pgha-agent.service";
    assert_eq!(locate(UNIFIED, member), Some(PathBuf::from(at)));
}

#[test]
fn in_a_container_it_is_below_the_root_of_the_mount() {
    let mounts = "41 31 0:38 /docker/ab /sys/fs/my\\040groups rw - cgroup2 cgroup2 rw\n";
    let at = |member| locate(mounts, member);
    assert_eq!(at("0::/docker/ab/x\n"), Some(PathBuf::from("/sys/fs/my groups/x")));
    assert_eq!(at("0::/docker/other\n"), None);
}

#[test]
fn without_version_2_there_is_none() {
    assert_eq!(locate("32 31 0:29 / /c rw - cgroup cgroup rw,cpu\n", "0::/\n"), None);
    assert_eq!(locate(UNIFIED, "9:name=systemd:/\n"), None);
}
