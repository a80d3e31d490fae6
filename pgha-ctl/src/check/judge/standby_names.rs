//! `synchronous_standby_names` as PostgreSQL reads it (documentation, "Replication", and
//! syncrep_gram.y).

#[cfg(test)]
mod tests;

/// Who has to confirm a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StandbyNames {
    /// How many.
    pub(super) need: usize,
    /// Of these; `*` is any.
    pub(super) names: Vec<String>,
}

impl StandbyNames {
    /// The names of the list that nobody has. PostgreSQL ignores case.
    pub(super) fn absent(&self, present: &[&str]) -> Vec<&str> {
        let names = self.names.iter().map(String::as_str);
        names.filter(|name| !is_there(name, present)).collect()
    }

    /// How many of those that are there can confirm.
    pub(super) fn can_confirm(&self, present: &[&str]) -> usize {
        let matches = |who: &&&str| self.names.iter().any(|name| is_there(name, &[who]));
        present.iter().filter(matches).count()
    }
}

fn is_there(name: &str, present: &[&str]) -> bool {
    if name == "*" {
        !present.is_empty()
    } else {
        present.iter().any(|p| p.eq_ignore_ascii_case(name))
    }
}

/// `None` for an empty list: nobody has to confirm.
pub(super) fn parse(text: &str) -> Option<StandbyNames> {
    let text = text.trim();
    let (head, list) = match text.split_once('(') {
        Some((head, rest)) => (head.trim(), rest.trim_end().strip_suffix(')').unwrap_or(rest)),
        None => ("1", text),
    };
    let need =
        head.split_whitespace().next_back().and_then(|number| number.parse().ok()).unwrap_or(1);
    let names: Vec<_> = split(list).into_iter().filter(|name| !name.is_empty()).collect();
    (!names.is_empty()).then_some(StandbyNames { need, names })
}

/// At the commas outside of quotes; `""` in quotes is a quote.
fn split(list: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut characters = list.chars().peekable();
    let mut quoted = false;
    while let Some(c) = characters.next() {
        match (c, names.last_mut()) {
            ('"', Some(name)) if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                name.push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', _) if !quoted => names.push(String::new()),
            (c, _) if !quoted && c.is_whitespace() => {}
            (c, Some(name)) => name.push(c),
            (_, None) => {}
        }
    }
    names
}
