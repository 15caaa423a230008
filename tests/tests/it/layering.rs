//! Keeps `docs/architecture.md` true: who may import whom, and how source files are laid out.
//!
//! It reads manifests and sources; it must never build, run or change what it judges.

mod graph;
mod links;
mod sources;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use graph::Workspace;
use table::Rules;

/// The checkout that this test was compiled from.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs: it is running this test");
    assert!(
        output.status.success(),
        "cargo {} failed:\n{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// `cargo metadata` of this workspace with the features and for the platform that the tests were built with, so that it
/// needs nothing that building them has not already downloaded.
fn workspace() -> Workspace {
    let version = cargo(&["--version", "--verbose"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    let text =
        cargo(&["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host]);
    Workspace::from_metadata(&text).expect("metadata has the documented shape")
}

fn rules() -> Rules {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).expect("the map is there");
    Rules::from_markdown(&page).expect("the map's tables can be read")
}

#[test]
fn crates_import_only_what_the_map_allows() {
    let broken = graph::violations(&workspace(), &rules());
    assert!(broken.is_empty(), "docs/architecture.md is broken:\n{}", broken.join("\n"));
}

#[test]
fn the_graph_that_is_judged_is_the_real_one() {
    let workspace = workspace();
    let model = workspace.way("tacit-model", "burn").expect("tacit-model links burn");
    assert_eq!(model, ["tacit-model", "burn"]);
    let simulations = workspace.way("tacit-simulations", "burn").expect("the simulator links burn");
    assert!(simulations.len() >= 3, "only tacit-model names burn, so the way is longer: {simulations:?}");
    assert_eq!(workspace.way("tacit-privacy", "burn"), None);
}

#[test]
fn the_map_says_what_the_design_says() {
    let rules = rules();
    for pure in ["tacit-privacy", "tacit-aggregation"] {
        let rule = rules.of(pure).expect("the map has the crate");
        assert!(rule.may_import.is_empty(), "{pure} imports no crate of ours");
        for network_or_tensors in ["tokio", "tonic", "rocksdb", "burn", "libp2p"] {
            assert!(rule.never.contains(network_or_tensors), "{pure} never reaches {network_or_tensors}");
        }
    }
    let coordinator = rules.of("tacit-coordinator").expect("the map has the crate");
    assert!(
        !coordinator.may_import.contains("tacit-client") && !coordinator.may_import.contains("tacit-model")
    );
    let client = rules.of("tacit-client").expect("the map has the crate");
    assert!(!client.may_import.contains("tacit-coordinator"));
    for name in rules.crates() {
        let rule = rules.of(name).expect("listed");
        assert!(!rule.may_import.contains("tacit-tests"), "{name} may not import the tests");
    }
}

#[test]
fn source_files_keep_the_house_rules() {
    let files = sources::read(&root()).expect("the sources can be read");
    assert!(files.len() > 50, "only {} source files were found under {}", files.len(), root().display());
    let broken: Vec<String> = files.iter().flat_map(sources::violations).collect();
    assert!(broken.is_empty(), "sources break the house rules:\n{}", broken.join("\n"));
}

#[test]
fn documents_link_to_what_is_there() {
    let pages = links::pages(&root()).expect("the documents can be read");
    for needed in ["README.md", "CONTRIBUTING.md", "docs/architecture.md"] {
        assert!(pages.iter().any(|page| page.path == Path::new(needed)), "{needed} was not found");
    }
    let broken: Vec<String> = pages.iter().flat_map(|page| links::broken(page, &root())).collect();
    assert!(broken.is_empty(), "links lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_crate_inherits_the_workspace_lints() {
    let workspace = workspace();
    for (name, manifest) in workspace.manifests() {
        let text = std::fs::read_to_string(manifest).expect("the manifest can be read");
        let inherits = text.split("[lints]").nth(1).is_some_and(|rest| {
            rest.lines()
                .take_while(|line| !line.starts_with('['))
                .any(|line| line.trim() == "workspace = true")
        });
        assert!(inherits, "{name} does not say `[lints] workspace = true`");
    }
}
