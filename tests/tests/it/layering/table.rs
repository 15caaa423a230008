//! The rules, read from the tables of `docs/architecture.md`, so that page and test cannot drift apart.

use std::collections::{BTreeMap, BTreeSet};

/// One row: what a crate of the workspace may name and what it may never reach.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Crates of the workspace that it may name.
    pub(super) may_import: BTreeSet<String>,
    /// Families of outside crates that it may not link, at any distance.
    pub(super) never: BTreeSet<String>,
}

/// Both tables.
#[derive(Debug)]
pub(super) struct Rules {
    crates: BTreeMap<String, Rule>,
    /// Outside crate to the only crates of the workspace that may name it.
    pub(super) named_only_by: BTreeMap<String, BTreeSet<String>>,
}

impl Rules {
    /// Reads the two tables by their first header cell: `crate` and `crate of others`.
    pub(super) fn from_markdown(page: &str) -> Result<Self, String> {
        let mut crates = BTreeMap::new();
        for row in rows(page, "crate")? {
            let [name, may_import, never, ..] = row.as_slice() else {
                return Err(format!("a row has fewer than three cells: {row:?}"));
            };
            let rule = Rule { may_import: names(may_import)?, never: names(never)? };
            if crates.insert(single(name)?, rule).is_some() {
                return Err(format!("{name} has two rows"));
            }
        }
        let mut named_only_by = BTreeMap::new();
        for row in rows(page, "crate of others")? {
            let [name, by, ..] = row.as_slice() else {
                return Err(format!("a row has fewer than two cells: {row:?}"));
            };
            named_only_by.insert(single(name)?, names(by)?);
        }
        Ok(Self { crates, named_only_by })
    }

    /// The row of a crate.
    pub(super) fn of(&self, name: &str) -> Option<&Rule> {
        self.crates.get(name)
    }

    /// The crates that have a row.
    pub(super) fn crates(&self) -> impl Iterator<Item = &str> {
        self.crates.keys().map(String::as_str)
    }
}

/// The cells of the body rows of the table whose first header cell is `first`.
fn rows(page: &str, first: &str) -> Result<Vec<Vec<String>>, String> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = page.lines().skip_while(|line| !line.starts_with('|') || cells(line)[0] != first).skip(1);
    if !lines.next().is_some_and(|line| line.starts_with("|---")) {
        return Err(format!("there is no table whose first column is `{first}`"));
    }
    let body: Vec<_> = lines.take_while(|line| line.starts_with('|')).map(cells).collect();
    if body.is_empty() { Err(format!("the table `{first}` has no rows")) } else { Ok(body) }
}

/// `none`, or names in backticks separated by commas.
fn names(cell: &str) -> Result<BTreeSet<String>, String> {
    if cell == "none" { Ok(BTreeSet::new()) } else { cell.split(',').map(single).collect() }
}

fn single(cell: &str) -> Result<String, String> {
    let name = cell.trim().strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    match name {
        Some(name) if !name.is_empty() && !name.contains('`') => Ok(name.to_owned()),
        _ => Err(format!("expected one name in backticks, found {cell:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
text
| crate | may import | never, at any distance | what |
|---|---|---|---|
| `a` | none | `tokio`, `burn` | x |
| `b` | `a` | none | y |

| crate of others | named only by |
|---|---|
| `burn` | `b` |
";

    #[test]
    fn reads_both_tables() {
        let rules = Rules::from_markdown(PAGE).unwrap();
        assert_eq!(rules.crates().collect::<Vec<_>>(), ["a", "b"]);
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(
            rules.of("a"),
            Some(&Rule { may_import: BTreeSet::new(), never: set(&["burn", "tokio"]) })
        );
        assert_eq!(rules.of("b"), Some(&Rule { may_import: set(&["a"]), never: BTreeSet::new() }));
        assert_eq!(rules.named_only_by.get("burn"), Some(&set(&["b"])));
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for broken in [
            "no table at all",
            &PAGE.replace("| `a` | none |", "| `a` | |"),
            &PAGE.replace("| `a` | none |", "| a | none |"),
            &PAGE.replace("`tokio`, `burn`", "`tokio` and `burn`"),
            &PAGE.replace("| `b` | `a` | none | y |", "| `a` | none | none | y |"),
            &PAGE.replace("| crate of others |", "| other |"),
            &PAGE.replace("| `burn` | `b` |\n", ""),
        ] {
            assert!(Rules::from_markdown(broken).is_err(), "accepted:\n{broken}");
        }
    }
}
