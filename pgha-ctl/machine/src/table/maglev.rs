use pgha_common::table::SLOTS;

use super::{Entry, in_service};

/// A weighted Maglev table: [`SLOTS`] ids, all 0 when no entry has a weight.
///
/// Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section
/// 3.4: every server prefers the slots in an order of its own, and in turn takes the first that is
/// still free. A server of half the greatest weight takes a turn every other round.
#[must_use]
pub fn maglev(entries: &[Entry]) -> Vec<u16> {
    let entries = in_service(entries);
    let mut table = vec![0; SLOTS];
    let Some(heaviest) = entries.iter().map(|entry| u32::from(entry.weight.get())).max() else {
        return table;
    };
    let mut turns: Vec<_> = entries.iter().map(|entry| (Preference::of(entry), 0)).collect();
    let mut free = SLOTS;
    loop {
        for (entry, (preference, credit)) in entries.iter().zip(&mut turns) {
            *credit += u32::from(entry.weight.get());
            if *credit < heaviest {
                continue;
            }
            *credit -= heaviest;
            let slot = preference.first_free(&table);
            table[slot] = entry.id;
            free -= 1;
            if free == 0 {
                return table;
            }
        }
    }
}

/// The order in which one server prefers the slots: from an offset on, in equal steps. As the number
/// of slots is prime, every step size visits all of them.
struct Preference {
    slot: usize,
    step: usize,
}

impl Preference {
    fn of(entry: &Entry) -> Self {
        let name = u64::from(u32::from(entry.address));
        let remainder = |seed, divisor: usize| {
            usize::try_from(mix(name ^ seed) % divisor as u64).unwrap_or_default()
        };
        Self {
            slot: remainder(0x6f66_6673_6574, SLOTS),
            step: 1 + remainder(0x7374_6570, SLOTS - 1),
        }
    }

    fn first_free(&mut self, table: &[u16]) -> usize {
        loop {
            let slot = self.slot;
            self.slot = (slot + self.step) % SLOTS;
            if table[slot] == 0 {
                return slot;
            }
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
