//! An order as it is written in JSON: each kind has its keys, and no others.

#[cfg(test)]
mod tests;

use pgha_machine::Weight;
use serde::{Deserialize, Deserializer};

use super::{OrderKind, OrderRequest};

/// The keys of all kinds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    server: String,
    service: Option<String>,
    order: Kind,
    /// Missing is another thing than `null`.
    #[serde(default, deserialize_with = "said")]
    weight: Option<Option<Weight>>,
    #[serde(default, deserialize_with = "said")]
    reset_after_ms: Option<Option<u64>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Weight,
    Drain,
    Undrain,
}

/// What is there, `null` too.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// The keys do not make an order.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// Which weight is meant?
    #[error(
        "the order `weight` takes the key `weight`: 0 to 1000, or null for the configuration's"
    )]
    NoWeight,
    /// It is of another kind.
    #[error("the key `{key}` is only of the order `{of}`; leave it out")]
    OfAnother {
        /// Which.
        key: &'static str,
        /// Whose it is.
        of: &'static str,
    },
}

impl TryFrom<Written> for OrderRequest {
    type Error = OrderError;

    fn try_from(written: Written) -> Result<Self, OrderError> {
        let Written { server, service, order, weight, reset_after_ms } = written;
        let order = match (order, weight, reset_after_ms) {
            (Kind::Weight, Some(weight), None) => OrderKind::Weight { weight },
            (Kind::Weight, None, None) => return Err(OrderError::NoWeight),
            (Kind::Drain, None, reset) => OrderKind::Drain { reset_after_ms: reset.flatten() },
            (Kind::Undrain, None, None) => OrderKind::Undrain,
            (Kind::Drain | Kind::Undrain, Some(_), _) => {
                return Err(OrderError::OfAnother { key: "weight", of: "weight" });
            }
            (Kind::Weight | Kind::Undrain, _, Some(_)) => {
                return Err(OrderError::OfAnother { key: "reset_after_ms", of: "drain" });
            }
        };
        Ok(Self { server, service, order })
    }
}
