//! Arguments as people write them, each refused in one phrase that says what to write.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use pgha_machine::Weight;

#[cfg(test)]
mod tests;

/// A length of time with its unit.
pub(super) fn time(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "give a time with its unit: 500ms, 90s, 10min, 2h")
}

/// One IP address.
pub(super) fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "give an IP address, such as 10.0.0.4 or fd00::4")
}

/// A weight.
pub(super) fn weight(text: &str) -> Result<Weight, &'static str> {
    text.parse().map_err(|_| "give a whole number from 0 to 1000")
}

/// How many: at least one.
pub(super) fn at_least_one<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.parse().map_err(|_| "give a whole number above 0")
}
