use super::*;

#[test]
fn what_is_said_is_understood() {
    let charge = Charge {
        start: 3,
        cgroup: "/sys/fs/cgroup/pgha/main/start-3".into(),
        vips: vec![Vip { address: "10.77.0.101".parse().unwrap(), prefix: 24, interface: 2 }],
        until: Moment::new(123_456),
    };
    for order in [
        Order::Look,
        Order::Guard(charge),
        Order::Renew { start: 3, until: Moment::new(u64::MAX) },
        Order::StandDown { start: 3 },
    ] {
        let order = Numbered { number: 1, order };
        let line = line(&order);
        assert!(line.ends_with(b"\n") && line.iter().filter(|byte| **byte == b'\n').count() == 1);
        assert_eq!(Numbered::read(&line), Ok(order));
    }
}

#[test]
fn what_is_no_order_is_refused_with_the_reason() {
    for noise in [
        &b""[..],
        b"null",
        b"{\"number\":1,\"order\":{\"guard\":{}}}",
        b"\xff\xff",
        b"{\"order\":{\"stand_down\":{\"start\":1}}}",
    ] {
        assert!(matches!(Numbered::read(noise), Err(Refusal::Unclear { why }) if !why.is_empty()));
    }
}
