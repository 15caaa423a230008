//! The `tacit-audit` command as a user meets it: every reference case, help, exit codes and messages.
#![allow(clippy::unwrap_used)]
#![allow(clippy::panic, reason = "helpers of tests stop where an assertion would")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn audit(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tacit-audit")).args(arguments).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Runs a command given as one line of words, with `--json`; its one line of output, read.
fn answer(line: &str) -> Value {
    let words: Vec<&str> = line.split_whitespace().chain(["--json"]).collect();
    let output = audit(&words);
    assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert_eq!(printed.trim_end().lines().count(), 1, "one object and nothing else: {printed}");
    serde_json::from_str(&printed).expect("JSON")
}

fn number(answer: &Value, field: &str) -> f64 {
    answer[field].as_f64().unwrap_or_else(|| panic!("no {field} in {answer}"))
}

/// A file for `--spec`.
fn spec(name: &str, content: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, content).expect("written");
    path
}

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    serde_json::from_str(&fs::read_to_string(path).expect("read")).expect("JSON")
}

#[test]
fn every_case_of_the_reference_is_met() {
    let reference = vectors("dp_reference.json");
    let cases = reference["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 15);
    for case in cases {
        let (sigma, rate, steps, delta) = (&case["sigma"], &case["q"], &case["steps"], &case["delta"]);
        let noise = |name| {
            answer(&format!("epsilon --mechanism {name} --sigma {sigma} --steps {steps} --delta {delta}"))
        };
        let found = match case["mechanism"].as_str().unwrap() {
            "zcdp->approxdp" => answer(&format!(
                "epsilon --mechanism zcdp --rho {} --steps {steps} --delta {delta}",
                case["rho"]
            )),
            "gaussian" => noise("gaussian"),
            "poisson_subsampled_gaussian" => noise(&format!("poisson-gaussian --sampling-rate {rate}")),
            "discrete_gaussian_1d_sens1" => noise("discrete-gaussian"),
            "skellam_1d_sens1" => noise("skellam"),
            "heterogeneous: 500x Poisson(q=.01) Gaussian(1) + 100x Poisson(q=.05) Gaussian(2) + 1x Gaussian(8)" =>
            {
                let step = |name: &str, sigma: f64, rate: f64, steps: u32| {
                    format!(
                        "[[step]]\nmechanism = '{name}'\nsigma = {sigma}\nsensitivity = 1.0\nsampling_rate = {rate}\n\
                         steps = {steps}\n"
                    )
                };
                let steps = [
                    step("poisson-gaussian", 1.0, 0.01, 500),
                    step("poisson-gaussian", 2.0, 0.05, 100),
                    step("gaussian", 8.0, 1.0, 1),
                ];
                let path = spec("heterogeneous.toml", &format!("delta = {delta}\n{}", steps.concat()));
                answer(&format!("epsilon --spec {}", path.display()))
            }
            other => panic!("the reference has a mechanism {other} that this test does not know"),
        };
        let (rdp, expected) = (number(&found, "epsilon_rdp"), case["eps_rdp"].as_f64().unwrap());
        assert!(rdp <= expected * 1.001, "{case}: {rdp}");
        match case["eps_pld"].as_f64() {
            Some(expected) => {
                let pld = number(&found, "epsilon_pld");
                assert!((pld - expected).abs() <= 1e-3 * expected && pld <= rdp, "{case}: {pld}");
                // The reference is rounded to six decimals.
                let least = case["eps_exact_gaussian"].as_f64().unwrap_or(0.0);
                assert!(pld >= least - 1e-6, "{case}: {pld} below the truth");
            }
            None => {
                assert!(rdp >= expected * 0.999, "{case}: {rdp}");
                assert!(rdp <= case["eps_bunsteinke"].as_f64().unwrap(), "{case}: {rdp}");
                assert!(found["epsilon_pld"].is_null() && found["reason"].is_string(), "{found}");
            }
        }
    }
}

#[test]
fn agrees_with_dp_accounting_on_random_parameters() {
    let reference = vectors("rdp_reference.json");
    let cases = reference["epsilons"].as_array().unwrap();
    assert!(cases.len() >= 70);
    for case in cases {
        let mechanism = case["mechanism"].as_str().unwrap();
        let rate = &case["sampling_rate"];
        let line = format!(
            "epsilon --mechanism {mechanism} --sigma {} --sampling-rate {rate} --steps {} --delta {}",
            case["sigma"], case["steps"], case["delta"]
        );
        let found = answer(&line);
        let (rdp, pld) = (number(&found, "epsilon_rdp"), number(&found, "epsilon_pld"));
        let expected = case["eps_rdp"].as_f64().unwrap();
        // Its default orders are few: ours are never worse, and may be better.
        assert!(rdp <= expected * 1.001, "{case}: {rdp}");
        assert!(rdp >= pld, "{case}: {rdp} below {pld}, the loss that is nearly exact");
        for field in ["mechanism", "sigma", "steps", "delta", "sampling_rate"] {
            assert_eq!(found[field], case[field], "{field} is echoed");
        }
    }
}

#[test]
fn compositions_of_unlike_mechanisms_agree_with_dp_accounting() {
    let reference = vectors("rdp_reference.json");
    let compositions = reference["compositions"].as_array().unwrap();
    assert!(compositions.len() >= 4);
    for (index, case) in compositions.iter().enumerate() {
        let mut file = format!("delta = {}\n", case["delta"]);
        for step in case["step"].as_array().unwrap() {
            file.push_str("\n[[step]]\n");
            for (name, value) in step.as_object().unwrap() {
                file.push_str(&format!("{name} = {value}\n"));
            }
        }
        let path = spec(&format!("composition-{index}.toml"), &file);
        let found = answer(&format!("epsilon --spec {}", path.display()));
        let (rdp, pld) = (number(&found, "epsilon_rdp"), number(&found, "epsilon_pld"));
        assert!(rdp <= case["eps_rdp"].as_f64().unwrap() * 1.001, "{case}: {rdp}");
        let expected = case["eps_pld"].as_f64().unwrap();
        // The reference is pessimistic on a coarser grid.
        assert!(pld <= expected * 1.001 && pld >= expected * 0.997, "{case}: {pld}");
        assert_eq!(found["step"].as_array().unwrap().len(), case["step"].as_array().unwrap().len());
    }
}

#[test]
fn a_composition_is_the_sum_of_its_steps_in_any_order() {
    let step = |sigma: f64, steps: u32| {
        format!("[[step]]\nmechanism = 'gaussian'\nsigma = {sigma}\nsteps = {steps}\n")
    };
    let file = |name, adjacency: &str, steps: [String; 2]| {
        let path = spec(name, &format!("delta = 1e-6\n{adjacency}\n{}", steps.concat()));
        answer(&format!("epsilon --spec {}", path.display()))
    };
    let [one, other] = [step(4.0, 3), step(2.0, 1)];
    let both = file("both.toml", "", [one.clone(), other.clone()]);
    // 3/16 + 1/4 = 7/16: seven steps of sigma 4.
    let same = answer("epsilon --mechanism gaussian --sigma 4 --steps 7 --delta 1e-6");
    let turned = file("turned.toml", "adjacency = 'zero-out'", [other.clone(), one.clone()]);
    let replaced = file("replaced.toml", "adjacency = 'replace-one'", [one, other]);
    let halved = answer("epsilon --mechanism gaussian --sigma 2 --steps 7 --delta 1e-6");
    for field in ["epsilon_pld", "epsilon_rdp"] {
        let close = |a: &Value, b: &Value| {
            let (a, b) = (number(a, field), number(b, field));
            assert!((a - b).abs() < 1e-9 * a, "{field}: {a}, {b}");
        };
        close(&both, &same);
        close(&both, &turned);
        close(&replaced, &halved);
    }
}

#[test]
fn replace_one_is_twice_the_distance_and_under_sampling_its_own_pair() {
    for (mechanism, sensitivity) in
        [("gaussian", 1.5), ("discrete-gaussian", 2.0), ("skellam", 2.0), ("laplace", 0.7)]
    {
        let line = |factor: f64, adjacency| {
            let sensitivity = factor * sensitivity;
            answer(&format!(
                "epsilon --mechanism {mechanism} --sigma 20 --sensitivity {sensitivity} --adjacency {adjacency} \
                 --steps 9 --delta 1e-5"
            ))
        };
        let (replaced, doubled) = (line(1.0, "replace-one"), line(2.0, "zero-out"));
        assert_eq!(replaced["epsilon_rdp"], doubled["epsilon_rdp"], "{mechanism}");
        assert_eq!(replaced["epsilon_pld"], doubled["epsilon_pld"], "{mechanism}");
        assert_eq!(replaced["adjacency"], "replace-one");
    }
    let sampled = |sigma: f64, adjacency| {
        let line = format!(
            "epsilon --mechanism poisson-gaussian --sigma {sigma} --sampling-rate 0.02 --adjacency {adjacency} --steps 500 \
             --delta 1e-5"
        );
        number(&answer(&line), "epsilon_rdp")
    };
    let (zero_out, replaced, doubled) =
        (sampled(2.0, "zero-out"), sampled(2.0, "replace-one"), sampled(1.0, "zero-out"));
    // Both neighbours are still sampled, so it costs less than a client of twice the length.
    assert!(zero_out * 1.5 < replaced && replaced < doubled, "{zero_out}, {replaced}, {doubled}");
}

#[test]
fn a_sum_of_shares_costs_what_their_whole_noise_does() {
    // 100 shares of deviation 10 are noise of deviation 100; in integer units so large, nothing is lost by summing.
    let line = "epsilon --mechanism distributed-discrete-gaussian --sigma 10 --sensitivity 50 --clients 100 \
                --dimension 6144 --steps 20 --delta 1e-6";
    let found = answer(line);
    let whole = answer("epsilon --mechanism gaussian --sigma 100 --sensitivity 50 --steps 20 --delta 1e-6");
    let (sum, one) = (number(&found, "epsilon_rdp"), number(&whole, "epsilon_rdp"));
    assert!((sum - one).abs() < 1e-3 * one, "{sum}, {one}");
    assert!(found["epsilon_pld"].is_null());
    assert!(found["reason"].as_str().unwrap().contains("many dimensions"), "{found}");
    // With little noise the shares' sum is not one discrete Gaussian, and costs more.
    let rough = answer(&line.replace("--sigma 10", "--sigma 0.6"));
    let smooth = answer("epsilon --mechanism gaussian --sigma 6 --sensitivity 50 --steps 20 --delta 1e-6");
    assert!(number(&rough, "epsilon_rdp") > 1.01 * number(&smooth, "epsilon_rdp"));
}

#[test]
fn the_calibrated_noise_keeps_the_target_and_a_thousandth_less_does_not() {
    let integer = "--sensitivity 3";
    let shares = "--sensitivity 50 --clients 100 --dimension 6144";
    for (mechanism, more, count, by) in [
        ("gaussian", "", 50, "pld"),
        ("gaussian", "--adjacency replace-one --sensitivity 2.5", 50, "pld"),
        ("poisson-gaussian", "--sampling-rate 0.01", 2000, "pld"),
        ("poisson-gaussian", "--sampling-rate 0.01 --adjacency replace-one", 200, "pld"),
        ("discrete-gaussian", integer, 10, "pld"),
        ("skellam", integer, 10, "pld"),
        ("laplace", "", 10, "pld"),
        ("distributed-discrete-gaussian", shares, 10, "rdp"),
        ("zcdp", "", 10, "rdp"),
    ] {
        let common = format!("--mechanism {mechanism} --steps {count} --delta 1e-6 {more}");
        let found = answer(&format!("calibrate --epsilon 1.5 {common}"));
        let least = number(&found, "noise_multiplier");
        assert_eq!(found["accountant"], by);
        let sensitivity = found["sensitivity"].as_f64().unwrap_or(1.0);
        let at = |factor: f64| {
            let noise = match mechanism {
                "zcdp" => format!("--rho {}", number(&found, "rho") / (factor * factor)),
                _ => format!("--sigma {}", number(&found, "sigma") * factor),
            };
            number(&answer(&format!("epsilon {common} {noise}")), &format!("epsilon_{by}"))
        };
        assert!(at(1.0) <= 1.5, "{mechanism}: {}", at(1.0));
        assert!(at(0.999) > 1.5, "{mechanism}: {} with less noise", at(0.999));
        if let Some(sigma) = found["sigma"].as_f64() {
            let shares = if mechanism.starts_with("distributed") { 10.0 } else { 1.0 };
            assert!((least - sigma * shares / sensitivity).abs() < 1e-9 * least, "{found}");
        }
        assert!(number(&found, "epsilon") <= 1.5 && number(&found, "target_epsilon") == 1.5);
    }
    // The exact analytic Gaussian (Balle, Wang 2018): epsilon 1 at 1e-5 needs 3.730632.
    let exact = number(&answer("calibrate --epsilon 1 --delta 1e-5 --steps 1"), "noise_multiplier");
    assert!((exact - 3.730_632).abs() < 1e-5, "{exact}");
    let by_bound = number(&answer("calibrate --epsilon 1 --delta 1e-5 --accountant rdp"), "noise_multiplier");
    assert!(by_bound > exact, "{by_bound}");
    let sampled = answer("calibrate --epsilon 1 --delta 1e-5 --sampling-rate 0.1");
    assert_eq!(sampled["mechanism"], "poisson-gaussian");
}

#[test]
fn wrong_values_are_named_and_end_with_code_1() {
    let gaussian = "epsilon --mechanism gaussian --delta 1e-5 --sigma";
    let sampled = "epsilon --mechanism poisson-gaussian --sigma 1 --delta 1e-5 --sampling-rate";
    let at_delta = "epsilon --mechanism gaussian --sigma 1 --delta";
    let shares =
        "epsilon --mechanism distributed-discrete-gaussian --delta 1e-5 --clients 10 --dimension 5 --sigma";
    for (line, message) in [
        (format!("{gaussian} 0"), "sigma 0 is refused; it is the standard deviation"),
        (format!("{gaussian} -1"), "sigma -1 is refused"),
        (format!("{gaussian} nan"), "sigma NaN is refused"),
        (format!("{gaussian} inf"), "sigma inf is refused"),
        (format!("{gaussian} 1 --sensitivity 0"), "sensitivity 0 is refused"),
        (format!("{gaussian} 1 --steps 0"), "0 steps are refused"),
        (format!("{sampled} 0"), "sampling rate 0 is refused; it must be above 0 and at most 1"),
        (format!("{sampled} 1.01"), "sampling rate 1.01 is refused"),
        (format!("{sampled} nan"), "sampling rate NaN is refused"),
        (format!("{gaussian} -1e-3"), "sigma -0.001 is refused"),
        (format!("{sampled} -1e-3"), "sampling rate -0.001 is refused"),
        (format!("{at_delta} -1e-5"), "delta -1e-5 is refused"),
        (format!("{at_delta} 0"), "delta 0 is refused; it must lie strictly between 0 and 1"),
        (format!("{at_delta} 1"), "delta 1 is refused"),
        (format!("{at_delta} nan"), "delta NaN is refused"),
        ("epsilon --mechanism zcdp --rho -1 --delta 1e-5".into(), "rho -1 is refused"),
        ("epsilon --mechanism zcdp --rho 1 --delta 1e-5 --adjacency replace-one".into(), "4 rho holds"),
        ("epsilon --mechanism skellam --sigma 3 --sensitivity 1.5 --delta 1e-5".into(), "whole number"),
        (
            "epsilon --mechanism discrete-gaussian --sigma 3 --sensitivity 0.5 --delta 1e-5".into(),
            "whole number",
        ),
        (format!("{shares} 0.4"), "nothing is proven below 0.5"),
        (format!("{shares} 1 --sensitivity -1"), "sensitivity -1 is refused"),
        (shares.replace("--clients 10", "--clients 0") + " 1", "0 clients are refused"),
        (shares.replace("--dimension 5", "--dimension 0") + " 1", "dimension 0 is refused"),
        ("calibrate --epsilon 0 --delta 1e-5".into(), "epsilon 0 is refused as a target"),
        ("calibrate --epsilon nan --delta 1e-5".into(), "epsilon NaN is refused as a target"),
        ("calibrate --epsilon 1 --delta 2".into(), "delta 2 is refused"),
        ("calibrate --epsilon 1 --delta 1e-5 --steps 0".into(), "0 steps are refused"),
        ("calibrate --epsilon 1 --delta 1e-5 --sampling-rate 7".into(), "sampling rate 7 is refused"),
        (
            "calibrate --epsilon 1 --delta 1e-5 --mechanism zcdp --accountant pld".into(),
            "has no epsilon to aim at",
        ),
        ("epsilon --spec nowhere.toml".into(), "nowhere.toml cannot be read"),
    ] {
        let output = audit(&line.split_whitespace().collect::<Vec<_>>());
        let shown = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {shown}");
        assert!(shown.starts_with("error: ") && shown.contains(message), "{line}: {shown}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn no_number_is_shown_with_a_hundred_zeros() {
    for line in [
        "epsilon --mechanism gaussian --sigma 1e-300 --delta 1e-5",
        "epsilon --mechanism gaussian --sigma 1e300 --delta 1e-5",
        "epsilon --mechanism gaussian --sigma 1 --delta 1e-300",
        "epsilon --mechanism gaussian --sigma -1e300 --delta 1e-5",
        "epsilon --mechanism gaussian --sigma 1 --sensitivity -1e300 --delta 1e-5",
        "epsilon --mechanism gaussian --sigma 1 --delta 1e300",
        "epsilon --mechanism poisson-gaussian --sampling-rate 1e-300 --sigma 1 --delta 1e-5",
        "epsilon --mechanism poisson-gaussian --sampling-rate 1e300 --sigma 1 --delta 1e-5",
        "epsilon --mechanism discrete-gaussian --sigma 1e300 --sensitivity 1e300 --delta 1e-5",
        "epsilon --mechanism distributed-discrete-gaussian --sigma 1e-300 --clients 9 --dimension 9 --delta 1e-5",
        "epsilon --mechanism laplace --sigma 1e-200 --delta 1e-9",
        "epsilon --mechanism zcdp --rho 1e300 --delta 1e-9",
        "epsilon --mechanism zcdp --rho -1e300 --delta 1e-9",
        "calibrate --epsilon 1e-300 --delta 1e-5",
        "calibrate --epsilon 1e300 --delta 1e-5",
        "calibrate --epsilon -1e300 --delta 1e-5",
    ] {
        let output = audit(&line.split_whitespace().collect::<Vec<_>>());
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert!(!shown.is_empty() && !shown.contains(&"0".repeat(30)), "{line}: {shown}");
    }
}

#[test]
fn wrong_usage_ends_with_code_2() {
    let gaussian = "epsilon --mechanism gaussian --sigma 1 --delta 1e-5";
    for line in [
        String::new(),
        "fly".into(),
        "epsilon".into(),
        "epsilon --mechanism gaussian --delta 1e-5".into(),
        "epsilon --mechanism gaussian --sigma 1".into(),
        "epsilon --mechanism poisson-gaussian --sigma 1 --delta 1e-5".into(),
        "epsilon --mechanism zcdp --sigma 1 --delta 1e-5".into(),
        "epsilon --mechanism distributed-discrete-gaussian --sigma 1 --clients 4 --delta 1e-5".into(),
        "epsilon --mechanism cauchy --sigma 1 --delta 1e-5".into(),
        "epsilon --spec a.toml --delta 1e-5".into(),
        format!("{gaussian} --rho 1"),
        format!("{gaussian} --sampling-rate 0.5"),
        format!("{gaussian} --clients 4"),
        format!("{gaussian} --steps many"),
        format!("{gaussian} --adjacency next-door"),
        format!("{gaussian} --loud"),
        "calibrate --delta 1e-5".into(),
        "calibrate --epsilon 1 --delta 1e-5 --mechanism gaussian --sampling-rate 0.5".into(),
        "calibrate --epsilon 1 --delta 1e-5 --mechanism distributed-discrete-gaussian".into(),
    ] {
        let output = audit(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{line}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{line}");
    }
}

#[test]
fn a_composition_with_anything_unknown_or_wrong_is_refused() {
    let good = "delta = 1e-5\n[[step]]\nmechanism = 'gaussian'\nsigma = 1.0\n[[step]]\nmechanism = 'skellam'\nsigma = 5.0\n";
    let accepted = spec("good.toml", good);
    assert!(number(&answer(&format!("epsilon --spec {}", accepted.display())), "epsilon_pld") > 4.4);
    for (index, (from, to, message)) in [
        ("sigma = 5.0", "sigma = 5.0\nnoise = 2", "unknown field `noise`"),
        ("delta = 1e-5", "delta = 1e-5\nname = 'x'", "unknown field `name`"),
        ("delta = 1e-5", "", "missing field `delta`"),
        ("'skellam'", "'scalem'", "unknown variant `scalem`"),
        ("sigma = 5.0", "", "step 2\n  because: the mechanism skellam needs sigma"),
        ("sigma = 5.0", "sigma = -5.0", "step 2\n  because: sigma -5 is refused"),
        ("sigma = 1.0", "sigma = 1.0\nsampling_rate = 0.5", "step 1\n  because: sampling-rate means nothing"),
        ("delta = 1e-5", "delta = 1.5", "delta 1.5 is refused"),
        ("delta = 1e-5", "delta = 1e-5\nadjacency = 'near'", "unknown variant `near`"),
        (&good[13..], "step = []", "has no [[step]]"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(good.contains(from), "{from}");
        let path = spec(&format!("bad-{index}.toml"), &good.replace(from, to));
        let output = audit(&["epsilon", "--spec", path.to_str().unwrap(), "--json"]);
        let shown = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}: {shown}");
        assert!(shown.contains(message), "{message}: {shown}");
    }
}

#[test]
fn without_json_a_table_says_which_number_is_what() {
    let words = "epsilon --mechanism gaussian --sigma 2 --steps 3 --delta 1e-5";
    let output = audit(&words.split_whitespace().collect::<Vec<_>>());
    assert!(output.status.success());
    let shown = text(&output.stdout);
    let expected = [
        "release        gaussian, sigma 2, sensitivity 1, 3 times",
        "neighbours     zero-out: one client's update replaced by zero",
        "delta          1e-5",
    ];
    assert!(shown.starts_with(&expected.join("\n")), "{shown}");
    let row = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("epsilon (PLD)").contains("3.70864"), "{shown}");
    assert!(row("epsilon (RDP)").ends_with("an upper bound"), "{shown}");
    let nothing = "epsilon --mechanism zcdp --rho 1 --delta 1e-5";
    let shown = text(&audit(&nothing.split_whitespace().collect::<Vec<_>>()).stdout);
    assert!(shown.contains("epsilon (PLD)  none") && shown.contains("\nbecause "), "{shown}");
}

#[test]
fn where_no_accountant_has_a_number_the_answer_says_why_and_the_code_is_1() {
    let words = "epsilon --mechanism gaussian --sigma 1e-300 --delta 1e-5 --json";
    let output = audit(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(answer["epsilon_pld"].is_null() && answer["epsilon_rdp"].is_null(), "{answer}");
    let reason = answer["reason"].as_str().unwrap();
    assert!(
        reason.contains("epsilon_pld: ") && reason.contains("epsilon_rdp: the privacy loss is unbounded")
    );
}

#[test]
fn help_is_as_it_was_read_over() {
    for (arguments, file) in [
        (vec!["--help"], "help.txt"),
        (vec!["epsilon", "--help"], "help-epsilon.txt"),
        (vec!["calibrate", "--help"], "help-calibrate.txt"),
    ] {
        let output = audit(&arguments);
        assert!(output.status.success());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(file);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, &output.stdout).expect("written");
        }
        let expected = fs::read_to_string(&path).expect("a snapshot; UPDATE_SNAPSHOTS=1 writes it");
        assert_eq!(text(&output.stdout), expected, "if this is meant, run the test with UPDATE_SNAPSHOTS=1");
    }
}
