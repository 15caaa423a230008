//! The `tacit-sim` command as a user meets it: help, exit codes, files and messages.

mod demo;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tacit_model::pretrain::{PretrainSettings, pretrain};
use tacit_model::storage::load_adapter;
use tacit_model::{Compute, DecoderConfig};
use tacit_simulations::report::Report;

const SCENARIO: &str = r#"
name = "cli"
model = "model"
seed = 5
rounds = 1
lora = { rank = 2, alpha = 4.0, targets = ["q_proj", "v_proj"], seed = 3 }
local = { optimizer = { rule = "adam" }, learning_rate = 0.01, steps = 1, batch = 2, sequence = 32 }
server = { rule = "fed-avg", learning_rate = 1.0 }
privacy = { clip = 0.5, noise_multiplier = 2.0, delta = 1e-5, adjacency = "zero-out", epsilon_limit = 4.0 }
cohort = { size = 8, dropout = 0.25, corrupt = 0.0, threat = "semi_malicious" }
dropouts = { advertise = 0.0, share = 0.0, collect = 0.0, confirm = 0.0, unmask = 0.0 }
evaluation = { files = 2, bytes_per_file = 300, window = 32, completion_tokens = 4 }
corpus = { bytes_per_developer = 20000, minimum_bytes = 200, minimum_files = 1 }
"#;

fn code(number: usize) -> String {
    let function =
        |n: usize| format!("pub fn add_{number}_{n}(x: u32) -> u32 {{\n    let y = x + {n};\n    y\n}}\n\n");
    (0..20).map(function).collect()
}

/// A folder with a model, a scenario beside it, and a corpus of ten developers; made once, never written to afterwards.
fn fixture() -> &'static Path {
    static FIXTURE: OnceLock<tempfile::TempDir> = OnceLock::new();
    FIXTURE.get_or_init(make_fixture).path()
}

fn make_fixture() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let text = serde_json::json!({ "text": code(100) }).to_string();
    for name in ["train.jsonl", "valid.jsonl"] {
        fs::write(root.path().join(name), format!("{text}\n{text}\n")).expect("a file");
    }
    let settings = PretrainSettings {
        corpus: root.path().to_owned(),
        out: root.path().join("model"),
        texts: None,
        model: DecoderConfig::new(300, 16, 1, 2, 1, 32),
        steps: 1,
        batch: 2,
        sequence: 32,
        learning_rate: 1e-3,
        weight_decay: 0.1,
        fim_rate: 0.2,
        seed: 1,
        shards: 1,
        time_limit: None,
    };
    pretrain(&settings, &Compute::Cpu.open().expect("a processor"), &mut |_| {}).expect("trained");
    for number in 0..10 {
        let folder = root.path().join(format!("corpus/dev{number}"));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("lib.rs"), code(number)).expect("a file");
    }
    fs::write(root.path().join("cli.toml"), SCENARIO).expect("a file");
    root
}

fn sim<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tacit-sim")).args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// `tacit-sim run` on the fixture's scenario and corpus, with more arguments.
fn run(more: &[&str]) -> Output {
    let (scenario, corpus) = (fixture().join("cli.toml"), fixture().join("corpus"));
    let fixed = ["run".into(), scenario, "--corpus".into(), corpus, "--threads".into(), "2".into()];
    sim(fixed.into_iter().chain(more.iter().map(PathBuf::from)))
}

/// The message of a run that must fail with code 1 and say nothing on standard output.
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    let stderr = text(&output.stderr);
    let line = stderr.lines().find(|line| line.starts_with("error: "));
    assert!(line.is_some(), "{stderr}");
    stderr
}

#[test]
fn help_is_what_newcomers_read() {
    for (arguments, file) in [
        (vec!["--help"], "help.txt"),
        (vec!["run", "--help"], "help-run.txt"),
        (vec!["plan", "--help"], "help-plan.txt"),
        (vec!["utility", "--help"], "help-utility.txt"),
        (vec!["bench-secagg", "--help"], "help-bench-secagg.txt"),
        (vec!["load", "--help"], "help-load.txt"),
        (vec!["demo", "--help"], "help-demo.txt"),
    ] {
        let output = sim(&arguments);
        assert!(output.status.success());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(file);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, &output.stdout).expect("written");
        }
        let expected = fs::read_to_string(&path).expect("a snapshot; UPDATE_SNAPSHOTS=1 writes it");
        assert_eq!(text(&output.stdout), expected, "if this is meant, run the test with UPDATE_SNAPSHOTS=1");
    }
}

#[test]
fn wrong_usage_ends_with_code_2() {
    for arguments in [
        vec![],
        vec!["fly"],
        vec!["run"],
        vec!["run", "x.toml", "--threads", "0"],
        vec!["run", "x.toml", "--loud"],
        vec!["demo", "x.toml", "--clients", "0"],
        vec!["demo", "x.toml", "--compare"],
    ] {
        let output = sim(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_run_writes_its_files_and_prints_its_summary() {
    let place = tempfile::tempdir().expect("a folder");
    let out = place.path().join("new/out");
    let output = run(&["--json", "--out", out.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert_eq!(printed.trim_end().lines().count(), 1, "one object and nothing else: {printed}");
    let summary: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    let report = Report::load(&out.join("report.json")).expect("whole");
    assert_eq!(summary["heldout_private"].as_f64(), Some(report.summary.heldout_private));
    assert_eq!((report.rounds.len(), report.rounds[0].survivors), (1, 8));
    let stderr = text(&output.stderr);
    assert!(stderr.lines().any(|line| line.starts_with("round  1: cohort 8, survivors 8, ")), "{stderr}");

    let config = DecoderConfig::load(&fixture().join("model/config.json")).expect("a model");
    let adapter = load_adapter(&out.join("adapter"), &config).expect("the PEFT layout");
    assert_eq!(adapter.flat().len(), report.summary.dimension);
    assert!(adapter.flat().iter().any(|value| *value != 0.0));

    let again = place.path().join("again.html");
    let report_path = out.join("report.json");
    let arguments: [&Path; 4] = ["report".as_ref(), &report_path, "--out".as_ref(), &again];
    assert!(sim(arguments).status.success());
    let page = fs::read_to_string(&again).expect("rendered");
    assert_eq!(page, fs::read_to_string(out.join("report.html")).expect("rendered"));
    assert!(refusal(&sim(["report", "nowhere.json"])).contains("nowhere.json"));
}

#[test]
fn without_json_a_table_is_shown() {
    let output = run(&["--plain", "--seed", "9"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for part in [
        "round  cohort  survivors",
        "held-out bits per byte",
        "epsilon",
        "before |",
        "after |",
        "the author |",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

/// `tacit-sim plan` for a cohort, with everything else that it needs and more arguments.
fn plan(clients: &str, fraction: &str, more: &[&str]) -> Output {
    let fixed = ["plan", "--clients", clients, "--corrupt", fraction, "--dropout", fraction];
    let fixed = fixed.into_iter().chain(["--dimension", "1000", "--clip", "0.5", "--noise-multiplier", "1"]);
    sim(fixed.chain(more.iter().copied()))
}

#[test]
fn negative_values_are_refused_by_what_they_mean() {
    let output = plan("80", "-0.1", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("\"-0.1\" is not a fraction"), "{}", text(&output.stderr));
    let output = plan("80", "0.1", &["--delta", "-1e-5", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("delta -1e-5 is refused"), "{}", text(&output.stdout));
    let output = sim(["bench-secagg", "--clients", "80", "--dimension", "10", "--dropout", "-0.1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("\"-0.1\" is not a fraction"), "{}", text(&output.stderr));
}

#[test]
fn a_plan_is_printed_or_its_reason() {
    let output = plan("80", "0.1", &["--threat", "semi_malicious", "--json"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let value: serde_json::Value = serde_json::from_str(&printed).expect("one JSON object");
    let fields: Vec<&String> = value.as_object().expect("an object").keys().collect();
    let mut expected = vec![
        "degree",
        "threshold_min",
        "threshold_max",
        "n_min",
        "bits",
        "scale",
        "sensitivity_inflation",
        "local_sigma",
        "epsilon_one_round",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    // The complete graph; (79 + 8)/2 + 1 and 79 - 8 shares.
    for (field, number) in [("degree", 79), ("threshold_min", 44), ("threshold_max", 71), ("n_min", 72)] {
        assert_eq!(value[field].as_u64(), Some(number), "{field}");
    }
    let shown = text(&plan("80", "0.1", &[]).stdout);
    assert_eq!(shown.lines().count(), 9, "{shown}");
    assert!(fields.iter().all(|field| shown.contains(field.as_str())), "{shown}");

    let output = plan("128", "0.33", &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let value: serde_json::Value = serde_json::from_str(&text(&output.stdout)).expect("one JSON object");
    assert_eq!(value.as_object().map(|object| object.len()), Some(1));
    assert!(value["reason"].as_str().is_some_and(|reason| reason.contains("no degree below 128-1")));
    assert!(refusal(&plan("128", "0.33", &[])).contains("no degree below 128-1"));
    assert!(refusal(&plan("80", "0.1", &["--n-min", "60"])).contains("n_min = 60 is below the 72"));

    for fraction in ["0.12345", "10%", "-0.1", "1.5"] {
        let output = plan("80", fraction, &["--json"]);
        assert_eq!(output.status.code(), Some(2), "{fraction}");
    }
}

#[test]
fn the_cost_in_accuracy_is_measured_drawn_and_tabled() {
    let place = tempfile::tempdir().expect("a folder");
    let out = place.path().join("new/utility");
    let small = [
        "utility",
        "--bits",
        "12,16",
        "--dimensions",
        "256",
        "--clients",
        "4,8",
        "--noise-multipliers",
        "1",
        "--fractions",
        "0,0.25",
        "--allowance-clients",
        "8",
        "--allowance-dimension",
        "256",
        "--coordinates",
        "256",
        "--out",
    ];
    let small = || small.into_iter().chain([out.to_str().expect("UTF-8")]);
    let output = sim(small().chain(["--json"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let value: serde_json::Value = serde_json::from_str(&text(&output.stdout)).expect("one JSON object");
    assert_eq!(value["points"].as_array().map(Vec::len), Some(8));
    assert!(value["points"][0]["measured"].as_f64().is_some_and(|error| error > 0.1 && error < 0.5));
    let names = [
        "allowances.csv",
        "collusion.svg",
        "dropout.svg",
        "excess-aligned.svg",
        "excess-random.svg",
        "points.csv",
        "rmse.svg",
    ];
    let mut found: Vec<String> = fs::read_dir(&out)
        .expect("made")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
        .collect();
    found.sort();
    assert_eq!(found, names);
    let output = sim(small());
    assert!(text(&output.stdout).contains("standard errors from what is expected"));
    assert!(refusal(&sim(small().chain(["--delta", "2"]))).contains("delta is 2"));
}

#[test]
fn bad_input_is_named_and_leaves_nothing() {
    let place = tempfile::tempdir().expect("a folder");
    let out = place.path().join("out");
    let corpus = fixture().join("corpus");
    let with = |scenario: &Path, corpus: &Path| {
        let arguments: [&Path; 6] =
            ["run".as_ref(), scenario, "--corpus".as_ref(), corpus, "--out".as_ref(), &out];
        let message = refusal(&sim(arguments));
        assert!(!out.exists(), "nothing is left behind: {message}");
        message
    };
    let scenario = |text: String| {
        let path = place.path().join("changed.toml");
        fs::write(&path, text).expect("a file");
        path
    };
    let model = fixture().join("model");
    let here = SCENARIO.replace("\"model\"", &format!("{model:?}"));

    let unknown = scenario(format!("surprise = 1\n{here}"));
    assert!(with(&unknown, &corpus).contains("surprise"));
    let message = with(&scenario(here.replace("size = 8", "size = 64")), &corpus);
    assert!(message.contains("needs 64 developers") && message.contains("only 9"), "{message}");
    assert!(with(&place.path().join("none.toml"), &corpus).contains("none.toml"));
    assert!(with(&scenario(SCENARIO.to_owned()), &corpus).contains("model"), "no model beside this scenario");

    let damaged = place.path().join("damaged");
    fs::create_dir(&damaged).expect("a folder");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(model.join(name), damaged.join(name)).expect("copied");
    }
    let whole = fs::read(model.join("model.safetensors")).expect("read");
    fs::write(damaged.join("model.safetensors"), &whole[..whole.len() / 2]).expect("cut");
    let message = with(&scenario(SCENARIO.replace("\"model\"", &format!("{damaged:?}"))), &corpus);
    assert!(message.contains("model.safetensors"), "{message}");

    let good = scenario(here.clone());
    let empty = place.path().join("empty");
    fs::create_dir_all(empty.join("dev")).expect("a folder");
    assert!(with(&good, &empty).contains("no readable text files"));
    fs::write(empty.join("dev/only.bin"), [0, 159, 146, 150]).expect("a file");
    assert!(with(&good, &empty).contains("1 are binary or not UTF-8"));
    assert!(with(&good, &place.path().join("nowhere")).contains("nowhere"));

    let blocked = place.path().join("file");
    fs::write(&blocked, "in the way").expect("a file");
    let message = refusal(&run(&["--out", blocked.to_str().expect("UTF-8")]));
    assert!(message.contains("cannot be written"), "{message}");
    assert_eq!(fs::read_to_string(&blocked).expect("untouched"), "in the way");
}

fn bench(more: &[&str]) -> Output {
    sim(["bench-secagg"].into_iter().chain(more.iter().copied()))
}

fn measured(more: &[&str]) -> serde_json::Value {
    let output = bench(&[more, &["--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert_eq!(printed.trim_end().lines().count(), 1, "one object and nothing else: {printed}");
    serde_json::from_str(&printed).expect("JSON")
}

#[test]
fn bench_secagg_prints_what_a_round_costs() {
    let (share, collect) = (["--drop-after", "share"], ["--drop-after", "collect"]);
    for (leave, survivors) in [(share, 9), (collect, 12)] {
        let round = ["--clients", "12", "--dimension", "300", "--bits", "20", "--dropout", "0.25"];
        let report = measured(&[&round[..], &leave[..]].concat());
        for (field, value) in [
            ("clients", 12),
            ("dimension", 300),
            ("bits", 20),
            ("degree", 11),
            ("threshold", 6),
            ("dropped", 3),
            ("survivors", survivors),
            ("clients_measured", 9),
        ] {
            assert_eq!(report[field].as_u64(), Some(value), "{field}: {report}");
        }
        assert_eq!(report["exact"].as_bool(), Some(true));
        let seconds = |who: &str, phase: &str| report[who][phase].as_f64().expect("seconds");
        for phase in ["advertise", "share", "collect", "confirm", "unmask"] {
            assert!(seconds("client_seconds", phase) > 0.0, "{phase}: {report}");
            assert!(seconds("server_seconds", phase) > 0.0, "{phase}: {report}");
        }
        assert!(seconds("client_seconds", "mask") > 0.0);
        assert!(seconds("client_seconds", "mask") < seconds("client_seconds", "collect"));
        // 750 bytes of vector, 11 envelopes of 88 and two lists of 6 points go up, 11 such lists come down.
        let total = |way: &str| report[way].as_u64().expect("bytes");
        assert!((750 + 11 * 88 + 2 * 6 * 32..4_000).contains(&total("client_bytes_up")), "{report}");
        assert!((11 * 2 * 6 * 32..20_000).contains(&total("client_bytes_down")), "{report}");
        for way in ["client_bytes_up", "client_bytes_down"] {
            let phases = report[format!("{way}_by_phase")].as_object().expect("an object");
            assert_eq!(phases.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), total(way));
        }
        assert!(report["peak_rss_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    }
}

#[test]
fn bench_secagg_serves_small_sparse_and_odd_rounds() {
    let smallest = measured(&["--clients", "3", "--dimension", "1", "--bits", "1"]);
    assert_eq!((smallest["exact"].as_bool(), smallest["degree"].as_u64()), (Some(true), Some(2)));
    let sparse =
        ["--clients", "140", "--dimension", "7", "--dropout", "0.1", "--threat", "honest_but_curious"];
    let sparse = measured(&[&sparse[..], &["--corrupt", "0.05", "--degree", "34", "--seed", "9"]].concat());
    for (field, value) in [("degree", 34), ("dropped", 14), ("survivors", 126), ("clients_measured", 16)] {
        assert_eq!(sparse[field].as_u64(), Some(value), "{field}: {sparse}");
    }
    assert_eq!(sparse["exact"].as_bool(), Some(true));
    assert!(sparse["corrupt"].as_f64().is_some_and(|corrupt| corrupt > 0.05), "{sparse}");

    let shown = bench(&["--clients", "5", "--dimension", "10"]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(shown.stderr.is_empty(), "no bar without a terminal: {}", text(&shown.stderr));
    let shown = text(&shown.stdout);
    for part in ["degree 4, threshold 3", "5 vectors in the sum, which is exact", "bytes down", "collect"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn bench_secagg_says_what_cannot_work() {
    let with = |more: &[&str]| {
        refusal(&bench(&[&["--clients", "150", "--dimension", "5", "--dropout", "0.1"], more].concat()))
    };
    assert!(with(&["--corrupt", "0.6"]).contains("no degree below 150-1 has a threshold"));
    assert!(with(&["--degree", "20"]).contains("--degree 20 is not admissible"));
    assert!(with(&["--bits", "33"]).contains("33 bits per coordinate"));
    assert!(refusal(&bench(&["--clients", "2", "--dimension", "5"])).contains("a cohort of 2 clients"));
    assert!(refusal(&bench(&["--clients", "9", "--dimension", "0"])).contains("a dimension of 0"));
    for wrong in
        [["--dropout", "0.12345"], ["--corrupt", "1.5"], ["--threat", "none"], ["--drop-after", "confirm"]]
    {
        let output = bench(&[&["--clients", "9", "--dimension", "5"], &wrong[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

/// `tacit-sim load` against the coordinator's program, which a build of the workspace puts beside it.
fn loaded(more: &[&str]) -> Output {
    sim(["load", "--seed", "3"].into_iter().chain(more.iter().copied()))
}

#[test]
fn load_recomputes_what_a_real_coordinator_releases() {
    let sizes = ["--clients", "5", "--dimension", "2000", "--rounds", "2", "--registered", "30"];
    let output = loaded(&[&sizes[..], &["--rate", "40", "--rate-seconds", "1", "--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert_eq!(printed.trim_end().lines().count(), 1, "one object and nothing else: {printed}");
    let report: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    for (field, value) in [("clients", 5), ("dimension", 2_000), ("rounds", 2), ("registered", 35)] {
        assert_eq!(report[field].as_u64(), Some(value), "{field}: {report}");
    }
    assert_eq!(report["exact"].as_bool(), Some(true));
    assert_eq!(report["check_ins"]["calls"].as_u64(), Some(40));
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    for phase in ["advertise", "share", "collect", "confirm", "unmask"] {
        assert!(number(&report["phase_seconds"][phase]) > 0.0, "{phase}: {report}");
    }
    for field in [
        "wall_seconds",
        "upload_bytes_per_second",
        "bare_stream_bytes_per_second",
        "p50_ms",
        "coordinator_cpu_seconds",
    ] {
        assert!(number(&report[field]) > 0.0, "{field}: {report}");
    }
    assert!(number(&report["p99_ms"]) >= number(&report["p50_ms"]));
    assert!(report["vector_bytes"].as_u64().is_some_and(|bytes| bytes >= 2_000));
    assert!(report["coordinator_peak_rss_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));

    let refused = |more: &[&str]| refusal(&loaded(more));
    assert!(refused(&["--clients", "3", "--dimension", "5"]).contains("--clients is 3"));
    assert!(refused(&["--clients", "5", "--dimension", "0"]).contains("--dimension is 0"));
}
