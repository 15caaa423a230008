//! The dependency graph as `cargo metadata` gives it, and what in it breaks the rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::table::Rules;

/// A package as the rules see it.
#[derive(Debug)]
struct Package {
    name: String,
    manifest: String,
    /// Ids of the packages that are linked into it: normal dependencies, whatever the target.
    linked: Vec<String>,
    /// Names that its manifest gives, as normal, test and build dependency, used or optional.
    named: BTreeSet<String>,
    integration_tests: usize,
}

/// The workspace's packages and everything that they link.
#[derive(Debug)]
pub(super) struct Workspace {
    packages: BTreeMap<String, Package>,
    /// Name to id of the workspace's own packages.
    members: BTreeMap<String, String>,
}

impl Workspace {
    /// Reads the output of `cargo metadata --format-version 1` with the resolved graph.
    pub(super) fn from_metadata(text: &str) -> Result<Self, String> {
        let metadata: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut packages = BTreeMap::new();
        for package in list(&metadata, "packages")? {
            let named = list(package, "dependencies")?
                .iter()
                .map(|dependency| string(dependency, "name"))
                .collect::<Result<_, _>>()?;
            let mut integration_tests = 0;
            for target in list(package, "targets")? {
                integration_tests += list(target, "kind")?.iter().filter(|kind| *kind == "test").count();
            }
            packages.insert(
                string(package, "id")?,
                Package {
                    name: string(package, "name")?,
                    manifest: string(package, "manifest_path")?,
                    linked: Vec::new(),
                    named,
                    integration_tests,
                },
            );
        }
        let resolve = metadata.get("resolve").filter(|resolve| !resolve.is_null()).ok_or("no `resolve`")?;
        for node in list(resolve, "nodes")? {
            let mut linked = Vec::new();
            for dependency in list(node, "deps")? {
                if list(dependency, "dep_kinds")?.iter().any(|kind| kind.get("kind") == Some(&Value::Null)) {
                    linked.push(string(dependency, "pkg")?);
                }
            }
            let id = string(node, "id")?;
            packages.get_mut(&id).ok_or_else(|| format!("{id} is resolved but not listed"))?.linked = linked;
        }
        let mut members = BTreeMap::new();
        for id in list(&metadata, "workspace_members")? {
            let id = id.as_str().ok_or("a workspace member is not a string")?;
            let package = packages.get(id).ok_or_else(|| format!("member {id} is not listed"))?;
            members.insert(package.name.clone(), id.to_owned());
        }
        Ok(Self { packages, members })
    }

    /// The shortest way from a crate of the workspace to a crate of the family, by linking; `None` when there is none.
    pub(super) fn way(&self, from: &str, family: &str) -> Option<Vec<&str>> {
        let start = self.members.get(from)?;
        let mut came_from = BTreeMap::from([(start, None)]);
        let mut queue = VecDeque::from([start]);
        while let Some(id) = queue.pop_front() {
            let package = self.packages.get(id)?;
            if id != start && belongs(&package.name, family) {
                let mut way = Vec::new();
                let mut step = Some(id);
                while let Some(id) = step {
                    way.push(self.packages.get(id)?.name.as_str());
                    step = came_from.get(id).copied().flatten();
                }
                way.reverse();
                return Some(way);
            }
            for next in &package.linked {
                came_from.entry(next).or_insert_with(|| {
                    queue.push_back(next);
                    Some(id)
                });
            }
        }
        None
    }

    /// Name and manifest of every crate of the workspace.
    pub(super) fn manifests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.own().map(|(name, package)| (name, package.manifest.as_str()))
    }

    fn own(&self) -> impl Iterator<Item = (&str, &Package)> {
        self.members.iter().filter_map(|(name, id)| Some((name.as_str(), self.packages.get(id)?)))
    }
}

/// Whether a crate is the family's own or one of its parts: `tokio-util` belongs to `tokio`.
fn belongs(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// What in the workspace breaks the rules, one sentence each.
pub(super) fn violations(workspace: &Workspace, rules: &Rules) -> Vec<String> {
    let mut broken = Vec::new();
    for name in rules.crates().filter(|name| !workspace.members.contains_key(*name)) {
        broken.push(format!("{name} has a row but is no member of the workspace"));
    }
    for (name, package) in workspace.own() {
        let Some(rule) = rules.of(name) else {
            broken.push(format!("{name} is a member of the workspace but has no row"));
            continue;
        };
        for import in package.named.iter().filter(|import| workspace.members.contains_key(*import)) {
            if !rule.may_import.contains(import) {
                broken.push(format!("{name} names {import}, which its row does not allow"));
            }
        }
        for family in &rule.never {
            if let Some(import) = package.named.iter().find(|import| belongs(import, family)) {
                broken.push(format!("{name} names {import}, which it may never reach"));
            } else if let Some(way) = workspace.way(name, family) {
                broken.push(format!("{name} links {family}, which it may never reach: {}", way.join(" -> ")));
            }
        }
        for (outside, by) in &rules.named_only_by {
            if package.named.contains(outside) && !by.contains(name) {
                broken.push(format!("{name} names {outside}, which is not its business"));
            }
        }
        if package.integration_tests > 1 {
            broken.push(format!(
                "{name} has {} integration-test binaries; one links faster",
                package.integration_tests
            ));
        }
    }
    broken
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    value.get(key).and_then(Value::as_array).ok_or_else(|| format!("no list `{key}`"))
}

fn string(value: &Value, key: &str) -> Result<String, String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("no string `{key}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PAGE: &str = "\
| crate | may import | never, at any distance |
|---|---|---|
| `pure` | none | `tokio`, `burn` |
| `app` | `pure` | none |

| crate of others | named only by |
|---|---|
| `prost` | `app` |
";

    /// Edges as (from, to, kind), kind being `null`, `"dev"` or `"build"`; `pure` and `app` are members.
    fn metadata(edges: &[(&str, &str, Value)], tests_of_pure: usize) -> String {
        let names: BTreeSet<&str> =
            edges.iter().flat_map(|(from, to, _)| [*from, *to]).chain(["pure", "app"]).collect();
        let from = |name: &str| edges.iter().filter(move |edge| edge.0 == name).cloned().collect::<Vec<_>>();
        let packages: Vec<Value> = names
            .iter()
            .map(|name| {
                let tests = if *name == "pure" { tests_of_pure } else { 0 };
                json!({
                    "id": format!("{name}#1"),
                    "name": name,
                    "manifest_path": format!("{name}/Cargo.toml"),
                    "dependencies": from(name).iter().map(|(_, to, kind)| json!({"name": to, "kind": kind})).collect::<Vec<_>>(),
                    "targets": vec![json!({"kind": ["test"]}); tests],
                })
            })
            .collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<Value> = from(name)
                    .iter()
                    .map(|(_, to, kind)| json!({"pkg": format!("{to}#1"), "dep_kinds": [{"kind": kind}]}))
                    .collect();
                json!({"id": format!("{name}#1"), "deps": deps})
            })
            .collect();
        json!({"packages": packages, "resolve": {"nodes": nodes}, "workspace_members": ["pure#1", "app#1"]})
            .to_string()
    }

    fn judge(edges: &[(&str, &str, Value)]) -> Vec<String> {
        let workspace = Workspace::from_metadata(&metadata(edges, 1)).unwrap();
        violations(&workspace, &Rules::from_markdown(PAGE).unwrap())
    }

    #[test]
    fn a_good_workspace_passes() {
        let good = [
            ("app", "pure", Value::Null),
            ("app", "prost", Value::Null),
            ("app", "tokio", Value::Null),
            ("pure", "serde", Value::Null),
            // What only tests or build scripts of others use is not linked in, and a name that merely begins alike is
            // another family.
            ("serde", "tokio", json!("dev")),
            ("serde", "burn", json!("build")),
            ("pure", "tokiofied", Value::Null),
        ];
        assert_eq!(judge(&good), Vec::<String>::new());
    }

    #[test]
    fn each_broken_rule_is_named() {
        let cases = [
            (vec![("pure", "app", Value::Null)], "pure names app, which its row does not allow"),
            (vec![("pure", "app", json!("dev"))], "pure names app, which its row does not allow"),
            (vec![("pure", "app", json!("build"))], "pure names app, which its row does not allow"),
            (vec![("pure", "tokio", Value::Null)], "pure names tokio, which it may never reach"),
            (vec![("pure", "tokio-util", json!("dev"))], "pure names tokio-util, which it may never reach"),
            (
                vec![("pure", "x", Value::Null), ("x", "y", Value::Null), ("y", "burn-core", Value::Null)],
                "pure links burn, which it may never reach: pure -> x -> y -> burn-core",
            ),
            (vec![("pure", "prost", Value::Null)], "pure names prost, which is not its business"),
        ];
        for (edges, expected) in cases {
            assert_eq!(judge(&edges), [expected]);
        }
    }

    #[test]
    fn crates_and_rows_must_match() {
        let workspace = Workspace::from_metadata(&metadata(&[], 1)).unwrap();
        let without = Rules::from_markdown(&PAGE.replace("| `app` | `pure` | none |\n", "")).unwrap();
        assert_eq!(violations(&workspace, &without), ["app is a member of the workspace but has no row"]);
        let renamed =
            Rules::from_markdown(&PAGE.replace("| `app` | `pure` |", "| `application` | `pure` |")).unwrap();
        let broken = violations(&workspace, &renamed);
        assert_eq!(broken.len(), 2);
        assert_eq!(broken[0], "application has a row but is no member of the workspace");
    }

    #[test]
    fn a_second_integration_test_binary_is_refused() {
        let workspace = Workspace::from_metadata(&metadata(&[], 2)).unwrap();
        let broken = violations(&workspace, &Rules::from_markdown(PAGE).unwrap());
        assert_eq!(broken, ["pure has 2 integration-test binaries; one links faster"]);
    }

    #[test]
    fn metadata_without_a_graph_is_refused() {
        assert!(Workspace::from_metadata("{}").is_err());
        let unresolved = r#"{"packages": [], "resolve": null, "workspace_members": []}"#;
        assert_eq!(Workspace::from_metadata(unresolved).unwrap_err(), "no `resolve`");
    }
}
