//! The text as TOML: syntax, unknown keys and wrong types, all of them, with lines.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::error::{At, ConfigError};
use super::raw::RawConfig;
use super::schema::{self, Kind};

/// A file whose values have the types of the schema; what had not is in `errors` and left out.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) raw: RawConfig,
    pub(super) places: Places,
    pub(super) errors: Vec<ConfigError>,
}

/// Where keys stand, and which were refused already.
#[derive(Debug, Default)]
pub(super) struct Places {
    lines: BTreeMap<String, usize>,
    refused: BTreeSet<String>,
}

impl Places {
    pub(super) fn at(&self, key: &str) -> At {
        At { key: key.to_owned(), line: self.lines.get(key).copied() }
    }

    /// Whether `key` or a table it stands in had the wrong type: it is then not missing.
    pub(super) fn refused(&self, key: &str) -> bool {
        self.refused.iter().any(|refused| {
            key.strip_prefix(refused.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }
}

/// Parses `text`. The error is every violation of TOML's syntax.
pub(super) fn parse(text: &str) -> Result<Document, Vec<ConfigError>> {
    let (mut root, faults) = DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        return Err(faults.iter().map(|fault| syntax(text, fault)).collect());
    }
    let mut walk = Walk { text, places: Places::default(), errors: Vec::new() };
    walk.table(root.get_mut(), "");
    let raw = RawConfig::deserialize(toml::de::Deserializer::from(root))
        .map_err(|fault| vec![syntax(text, &fault)])?;
    Ok(Document { raw, places: walk.places, errors: walk.errors })
}

fn syntax(text: &str, fault: &toml::de::Error) -> ConfigError {
    let before = text.get(..fault.span().map_or(0, |span| span.start)).unwrap_or(text);
    ConfigError::Syntax {
        line: line_of(before),
        column: before.rsplit('\n').next().unwrap_or(before).chars().count() + 1,
        message: fault.message().trim().to_owned(),
    }
}

fn line_of(before: &str) -> usize {
    before.matches('\n').count() + 1
}

/// One pass over the tree that takes out what the schema refuses.
struct Walk<'t> {
    text: &'t str,
    places: Places,
    errors: Vec<ConfigError>,
}

impl Walk<'_> {
    fn table(&mut self, table: &mut DeTable<'_>, path: &str) {
        for (name, mut value) in mem::take(table) {
            let key = schema::join(path, name.get_ref());
            let before = self.text.get(..name.span().start).unwrap_or_default();
            self.places.lines.insert(key.clone(), line_of(before));
            if self.entry(&key, path, name.get_ref(), value.get_mut()) {
                table.insert(name, value);
            } else {
                self.places.refused.insert(key);
            }
        }
    }

    /// Whether the value may stay.
    fn entry(&mut self, key: &str, path: &str, name: &str, value: &mut DeValue<'_>) -> bool {
        if let Some(entry) = schema::find(key) {
            return self.leaf(key, entry.kind, value);
        }
        let pattern = schema::pattern(key);
        if !schema::names_in(&format!("{pattern}[]")).is_empty() {
            return self.tables(key, value);
        }
        if schema::names_in(&pattern).is_empty() {
            let suggestion = suggest(path, name);
            if let Some(meant) = &suggestion {
                // One slip of the pen is one error: the key that was meant is not missing too.
                self.places.refused.insert(schema::join(path, meant));
            }
            self.errors.push(ConfigError::UnknownKey { at: self.places.at(key), suggestion });
            return false;
        }
        if let DeValue::Table(inner) = value {
            self.table(inner, key);
            return true;
        }
        self.wrong_type(key, value, "a table");
        false
    }

    /// A list of tables. One entry of another type takes the whole list with it, so that the
    /// numbers of the others do not move.
    fn tables(&mut self, key: &str, value: &mut DeValue<'_>) -> bool {
        const EXPECTED: &str = "a list of tables: write it with double brackets";
        let DeValue::Array(entries) = value else {
            self.wrong_type(key, value, EXPECTED);
            return false;
        };
        let mut kept = true;
        for (index, entry) in entries.iter_mut().enumerate() {
            let key = format!("{key}[{index}]");
            let before = self.text.get(..entry.span().start).unwrap_or_default();
            self.places.lines.insert(key.clone(), line_of(before));
            if let DeValue::Table(inner) = entry.get_mut() {
                self.table(inner, &key);
            } else {
                self.wrong_type(&key, entry.get_ref(), "a table");
                kept = false;
            }
        }
        kept
    }

    fn leaf(&mut self, key: &str, kind: Kind, value: &DeValue<'_>) -> bool {
        let fits = match kind {
            Kind::Text
            | Kind::Name
            | Kind::Path
            | Kind::Address
            | Kind::Process
            | Kind::Choice(_)
            | Kind::Duration { .. } => value.is_str(),
            Kind::Interfaces | Kind::Addresses | Kind::Listeners => {
                value.is_str() || is_list_of_strings(value)
            }
            Kind::Hosts | Kind::Networks | Kind::Endpoints | Kind::Options | Kind::Choices(_) => {
                is_list_of_strings(value)
            }
            Kind::Boolean => value.is_bool(),
            Kind::Integer { .. } => integer(value).is_some(),
        };
        if !fits {
            self.wrong_type(key, value, kind.toml_type());
        }
        fits
    }

    fn wrong_type(&mut self, key: &str, value: &DeValue<'_>, expected: &'static str) {
        let found = match value {
            DeValue::String(text) => format!("the string {text:?}"),
            DeValue::Integer(number) if integer(value).is_none() => {
                format!("{}, beyond 64 bits", number.as_str())
            }
            DeValue::Integer(number) => format!("the number {}", number.as_str()),
            DeValue::Float(number) => format!("the number {}", number.as_str()),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(value) => format!("the time {value}"),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.errors.push(ConfigError::WrongType { at: self.places.at(key), found, expected });
    }
}

fn is_list_of_strings(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|entries| entries.iter().all(|entry| entry.get_ref().is_str()))
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What was probably meant by an unknown `name` in the table at `path`: a similar name there, or
/// the same name in another table (a key below the wrong header is TOML's commonest trap).
fn suggest(path: &str, name: &str) -> Option<String> {
    nearest(name, &schema::names_in(&schema::pattern(path))).or_else(|| {
        let elsewhere = schema::KEYS.iter().find(|key| schema::split(key.path).1 == name)?;
        Some(elsewhere.path.replace("[]", ""))
    })
}

/// The candidate most like `name`, if any is like it.
pub(super) fn nearest(name: &str, candidates: &[&str]) -> Option<String> {
    const ALIKE: f64 = 0.8;
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| (*candidate).to_owned())
}
