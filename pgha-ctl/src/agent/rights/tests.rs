use super::needed;

fn names(guardian: bool, same_user: bool) -> String {
    crate::net::caps::names(&needed(guardian, same_user))
}

#[test]
fn what_is_needed_goes_by_the_user_and_the_guardian() {
    let least = "CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON";
    let of_another_user = "CAP_KILL, CAP_SETGID, CAP_SETUID";
    let of_the_guardian = "CAP_IPC_LOCK, CAP_SYS_NICE";
    assert_eq!(names(false, true), least);
    assert_eq!(names(true, true), format!("{least}, {of_the_guardian}"));
    assert_eq!(names(true, false), format!("{least}, {of_another_user}, {of_the_guardian}"));
}
