use std::iter::Peekable;
use std::net::IpAddr;

use pgha_common::table::SLOTS;

use super::{Entry, in_service};
use crate::EffectiveWeight;

/// A weighted Maglev table: [`SLOTS`] ids, all 0 when no entry has a weight.
///
/// Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section
/// 3.4: every server walks the slots in an order of its own, and has those that it reaches first.
/// There a server skips what others have, so that one server more or less moves slots between
/// the others. Here nobody skips: the servers walk as if alone, each at the pace of [`arrivals`], and
/// [`first_come`] moves no slot more than it must. It gives shares that are off by a percent or so;
/// [`even_out`] hands over the few slots that keep each within [`TOLERANCE`].
#[must_use]
pub fn maglev(entries: &[Entry]) -> Vec<u16> {
    let servers = in_service(entries);
    if servers.is_empty() {
        return vec![0; SLOTS];
    }
    let pace = pace();
    let mut claims = first_come(&servers, &pace);
    even_out(&servers, &pace, &mut claims);
    claims.iter().map(|claim| servers[claim.server].id).collect()
}

/// Who has a slot, and since when.
#[derive(Clone, Copy)]
struct Claim {
    time: u64,
    server: usize,
}

/// A server may have 1 of so many slots more or less than its share by weight.
const TOLERANCE: u64 = 100;

/// The unit of time of a server of weight 1 is `PACE * SCALE`, so that times are whole numbers. The
/// last slot of the least weight, a tenth, is reached at `PACE * SCALE * 10 * ln(SLOTS)` or so, which a
/// `u64` still holds.
const PACE: u64 = 1 << 32;
const SCALE: u64 = 1 << 24;
/// Weight 1 in thousandths.
const WEIGHT_UNIT: u64 = EffectiveWeight::ONE.thousandths() as u64;

/// Binary places to which one time is compared with another by their ratio.
const LATENESS_BITS: u32 = 20;

/// When a server of weight 1 reaches the first slot of its order, the second, and so on.
///
/// With k slots left, the next takes 1/k: the mean times at which k exponential clocks go off.
/// Of such clocks, the chance to be first is proportional to the weight, by which they run faster
/// (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", SPAA 2005).
fn pace() -> Vec<u64> {
    let mut time = 0;
    let step = |left: usize| {
        let step = PACE / left as u64;
        time += step;
        time - step / 2
    };
    (1..=SLOTS).rev().map(step).collect()
}

/// The slots in the order that one server prefers, and when it reaches them.
fn arrivals(server: &Entry, pace: &[u64]) -> impl Iterator<Item = (usize, u64)> {
    let scale = SCALE * WEIGHT_UNIT / u64::from(server.weight.thousandths());
    Order::of(server).zip(pace).map(move |(slot, time)| (slot, time * scale))
}

/// Gives every slot to the server that reaches it first; at the same time, to the lower address.
fn first_come(servers: &[Entry], pace: &[u64]) -> Vec<Claim> {
    let mut claims = vec![Claim { time: u64::MAX, server: 0 }; SLOTS];
    let mut walks: Vec<_> =
        servers.iter().map(|server| arrivals(server, pace).peekable()).collect();
    let round = PACE * (SCALE * WEIGHT_UNIT / total(servers)).max(1);
    let (mut now, mut free) = (0, SLOTS);
    while free > 0 {
        now += round;
        for (server, walk) in walks.iter_mut().enumerate() {
            free -= walk_until(now, walk, server, &mut claims);
        }
    }
    claims
}

/// Lets one server walk on for a while; how many free slots it found.
fn walk_until(
    now: u64,
    walk: &mut Peekable<impl Iterator<Item = (usize, u64)>>,
    server: usize,
    claims: &mut [Claim],
) -> usize {
    let mut found = 0;
    while let Some((slot, time)) = walk.next_if(|(_, time)| *time <= now) {
        let claim = &mut claims[slot];
        found += usize::from(claim.time == u64::MAX);
        if time < claim.time {
            *claim = Claim { time, server };
        }
    }
    found
}

/// Hands slots of servers that have too many to those that have too few: first those that the new
/// server reaches hardly later than the old one. These stay the same when other servers change.
fn even_out(servers: &[Entry], pace: &[u64], claims: &mut [Claim]) {
    let mut counts = vec![0; servers.len()];
    for claim in &*claims {
        counts[claim.server] += 1;
    }
    let wanted = wanted(servers, &counts);
    // At most twice as late, or else 8 times, and so on: at last any slot will do.
    for reach in (1..u64::BITS).step_by(2).map(|power| 1 << power) {
        if counts == wanted {
            return;
        }
        let mut offers = Vec::new();
        let latest = claims.iter().map(|claim| claim.time).max().unwrap_or_default();
        let needy = (0..servers.len()).filter(|server| counts[*server] < wanted[*server]);
        for server in needy {
            let walk = arrivals(&servers[server], pace);
            for (slot, time) in walk.take_while(|(_, time)| time / reach <= latest) {
                let owner = claims[slot];
                if counts[owner.server] > wanted[owner.server] && time / reach <= owner.time {
                    let lateness = time / (owner.time >> LATENESS_BITS).max(1);
                    offers.push((lateness, slot, Claim { time, server }));
                }
            }
        }
        offers.sort_unstable_by_key(|(lateness, slot, claim)| (*lateness, *slot, claim.server));
        for (_, slot, claim) in offers {
            let owner = claims[slot].server;
            if counts[owner] > wanted[owner] && counts[claim.server] < wanted[claim.server] {
                counts[owner] -= 1;
                counts[claim.server] += 1;
                claims[slot] = claim;
            }
        }
    }
}

/// How many slots each server shall have: what it has, within the tolerance, and [`SLOTS`] in all.
fn wanted(servers: &[Entry], counts: &[usize]) -> Vec<usize> {
    let bounds: Vec<_> = servers.iter().map(|server| bounds(server, total(servers))).collect();
    let mut wanted: Vec<_> = counts
        .iter()
        .zip(&bounds)
        .map(|(count, (least, most))| *count.clamp(least, most))
        .collect();
    let load = |wanted: &[usize], server: usize| {
        wanted[server] as u64 * SCALE * WEIGHT_UNIT
            / u64::from(servers[server].weight.thousandths())
    };
    let sum: usize = wanted.iter().sum();
    for _ in sum..SLOTS {
        let room = (0..servers.len()).filter(|server| wanted[*server] < bounds[*server].1);
        if let Some(server) = room.min_by_key(|server| load(&wanted, *server)) {
            wanted[server] += 1;
        }
    }
    for _ in SLOTS..sum {
        let spare = (0..servers.len()).filter(|server| wanted[*server] > bounds[*server].0);
        if let Some(server) = spare.max_by_key(|server| load(&wanted, *server)) {
            wanted[server] -= 1;
        }
    }
    wanted
}

/// The fewest and the most slots within the tolerance: at least the share by weight, rounded.
fn bounds(server: &Entry, total: u64) -> (usize, usize) {
    let share = SLOTS as u64 * u64::from(server.weight.thousandths());
    let least = (share - share / TOLERANCE).div_ceil(total).min(share / total).max(1);
    let most = ((share + share / TOLERANCE) / total).max(share.div_ceil(total));
    (least as usize, most as usize)
}

fn total(servers: &[Entry]) -> u64 {
    servers.iter().map(|server| u64::from(server.weight.thousandths())).sum()
}

/// The order in which one server prefers the slots, as good as independent of the other servers'.
///
/// As in the paper, from an offset on in equal steps, modulo a prime. With the powers of
/// [`GENERATOR`] as steps, the orders of one /24 (of one /120 in IPv6) spread over the slots more evenly than chance would
/// have it (Korobov, "The approximate computation of multiple integrals", 1959). Between two such
/// networks, steps could be alike: there, cubes and a shift make the orders independent, as the
/// points of x³ + a = y³ + b spread evenly for all a ≠ b.
struct Order {
    place: u64,
    step: u64,
    shift: u64,
}

/// A primitive root of [`SLOTS`], chosen so that the steps of near addresses have no simple ratio.
pub(super) const GENERATOR: u64 = 4475;

impl Order {
    fn of(server: &Entry) -> Self {
        let (prefix, low) = halves(server.address);
        let host = low & 0xff;
        let step = (0..host).fold(1, |step, _| step * GENERATOR % SLOTS as u64);
        Self {
            place: mix(prefix ^ low) % SLOTS as u64,
            step,
            shift: mix(!(prefix ^ low >> 8)) % SLOTS as u64,
        }
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let place = self.place;
        self.place = (place + self.step) % SLOTS as u64;
        // As 3 does not divide SLOTS - 1, every number has one cube root: no slot comes twice.
        let cube = place * place % SLOTS as u64 * place;
        Some(((cube + self.shift) % SLOTS as u64) as usize)
    }
}

/// The first and the last 64 bits of an address. The first are mixed, so that neighbouring networks
/// of IPv6 differ in all of them; IPv4 has none.
fn halves(address: IpAddr) -> (u64, u64) {
    match address {
        IpAddr::V4(address) => (0, u64::from(u32::from(address))),
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            (mix((bits >> 64) as u64), bits as u64)
        }
    }
}

/// SplitMix64 (Steele et al., OOPSLA 2014): spreads neighbouring addresses over 64 bits.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
