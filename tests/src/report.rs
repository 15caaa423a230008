//! What a demo must leave behind: judged from the files alone, without the simulator's own types, as any other program
//! that reads a report would. Must never write.

use std::path::Path;

use serde_json::{Map, Value};

/// Judges an output folder: `report.json`, `report.html` and `adapter/`. Returns the result in one line.
///
/// # Errors
/// Everything that is wrong, one sentence each: a missing file or field, a figure that cannot be, bits per byte that did
/// not fall, an epsilon above the scenario's limit.
pub fn check(folder: &Path) -> Result<String, Vec<String>> {
    let mut wrong = Vec::new();
    let words = match read_json(&folder.join("report.json")) {
        Ok(report) => check_json(&report, &mut wrong),
        Err(reason) => {
            wrong.push(reason);
            String::new()
        }
    };
    check_page(&folder.join("report.html"), &mut wrong);
    check_adapter(&folder.join("adapter"), &mut wrong);
    if wrong.is_empty() { Ok(words) } else { Err(wrong) }
}

fn read_json(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A JSON object with its place in the file; what it lacks is noted under that place.
struct Fields<'a> {
    place: String,
    values: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn of(value: &'a Value, place: &str, wrong: &mut Vec<String>) -> Option<Self> {
        let values = value.as_object();
        if values.is_none() {
            wrong.push(format!("{place} is not an object"));
        }
        Some(Self { place: place.to_owned(), values: values? })
    }

    /// A finite number of at least `least`. Not a number, if there is none: no comparison with it holds.
    fn number(&self, name: &str, least: f64, wrong: &mut Vec<String>) -> f64 {
        match self.values.get(name).and_then(Value::as_f64).filter(|number| *number >= least) {
            Some(number) => number,
            None => {
                wrong.push(format!("{}.{name} is not a number of at least {least}", self.place));
                f64::NAN
            }
        }
    }

    /// A whole number of at least `least`.
    fn count(&self, name: &str, least: u64, wrong: &mut Vec<String>) -> Option<u64> {
        let count = self.values.get(name).and_then(Value::as_u64).filter(|count| *count >= least);
        if count.is_none() {
            wrong.push(format!("{}.{name} is not a whole number of at least {least}", self.place));
        }
        count
    }
}

fn check_json(report: &Value, wrong: &mut Vec<String>) -> String {
    let rounds = report.get("rounds").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if rounds.is_empty() {
        wrong.push("rounds is not a list with at least one round".to_owned());
    }
    let mut last_epsilon = 0.0;
    for (place, round) in rounds.iter().enumerate() {
        last_epsilon = check_round(place, round, last_epsilon, wrong);
    }
    if let Some(network) = report.get("network") {
        check_network(network, report, rounds, wrong);
    }
    let Some(summary) = Fields::of(&report["summary"], "summary", wrong) else {
        return String::new();
    };
    let start = summary.number("heldout_start", f64::MIN_POSITIVE, wrong);
    let private = summary.number("heldout_private", f64::MIN_POSITIVE, wrong);
    if private.partial_cmp(&start) != Some(std::cmp::Ordering::Less) {
        wrong.push(format!("held-out bits per byte did not fall: {start} before, {private} after"));
    }
    let compared = ["heldout_federated_plain", "heldout_central", "recovered_share"];
    let numbers =
        compared.iter().filter(|name| summary.values.get(**name).is_some_and(Value::is_number)).count();
    let nulls = compared.iter().filter(|name| summary.values.get(**name).is_some_and(Value::is_null)).count();
    if numbers != compared.len() && nulls != compared.len() {
        wrong.push(format!("summary: {} are neither all numbers nor all null", compared.join(", ")));
    }
    summary.count("dimension", 1, wrong);
    let epsilon = summary.number("epsilon", f64::MIN_POSITIVE, wrong);
    if epsilon != last_epsilon {
        wrong.push(format!("summary.epsilon is {epsilon}, but the last round's is {last_epsilon}"));
    }
    let limit = report["scenario"]["privacy"]["epsilon_limit"].as_f64().unwrap_or(f64::NAN);
    if !matches!(epsilon.partial_cmp(&limit), Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)) {
        wrong.push(format!("epsilon {epsilon} is not at most the scenario's limit {limit}"));
    }
    let delta = summary.number("delta", f64::MIN_POSITIVE, wrong);
    if delta >= 1.0 {
        wrong.push(format!("summary.delta is {delta}, not below 1"));
    }
    summary.number("noise_multiplier", f64::MIN_POSITIVE, wrong);
    summary.number("wall_seconds", f64::MIN_POSITIVE, wrong);
    summary.number("client_updates_per_second", f64::MIN_POSITIVE, wrong);
    if !summary.values.get("peak_rss_bytes").is_some_and(Value::is_null) {
        summary.count("peak_rss_bytes", 1, wrong);
    }
    format!(
        "{} rounds, held-out bits per byte {start:.4} -> {private:.4}, epsilon {epsilon:.3} (limit {limit}) at \
         delta {delta:e}",
        rounds.len()
    )
}

/// Judges what a run over the network says of its processes, and that it says nothing that only its clients know.
fn check_network(network: &Value, report: &Value, rounds: &[Value], wrong: &mut Vec<String>) {
    let mut clients = 0;
    for (kind, least) in [("coordinator", 1), ("client_processes", 1), ("fleet_processes", 0)] {
        let Some(used) = Fields::of(&network[kind], &format!("network.{kind}"), wrong) else { continue };
        let processes = used.count("processes", least, wrong).unwrap_or_default();
        clients += used.count("clients", 0, wrong).unwrap_or_default();
        used.count("peak_rss_bytes", processes.min(1), wrong);
        used.number("cpu_seconds", 0.0, wrong);
    }
    if report["corpus"]["developers"].as_u64() != Some(clients) {
        wrong.push(format!("network: its processes have {clients} clients, not one for each developer"));
    }
    if report["simulated_noise_is_seeded"] != Value::Bool(false) {
        wrong.push("simulated_noise_is_seeded is not false, but real clients draw their noise".to_owned());
    }
    for (place, round) in rounds.iter().enumerate() {
        for known_to_clients in ["norms", "local_loss", "traffic"] {
            if !round[known_to_clients].is_null() {
                wrong.push(format!("rounds[{place}].{known_to_clients} is not null: only clients know it"));
            }
        }
    }
}

/// Judges one round and returns its epsilon, which the next one may not fall below.
fn check_round(place: usize, round: &Value, epsilon_before: f64, wrong: &mut Vec<String>) -> f64 {
    let place_name = format!("rounds[{place}]");
    let Some(fields) = Fields::of(round, &place_name, wrong) else {
        return epsilon_before;
    };
    if fields.count("round", 1, wrong).is_some_and(|number| number != place as u64 + 1) {
        wrong.push(format!("{place_name} is not round {}", place + 1));
    }
    // Nobody is in the cohort of a round to which too few came.
    let cohort = fields.count("cohort", 0, wrong);
    let survivors = fields.count("survivors", 0, wrong);
    if survivors > cohort {
        wrong.push(format!("{place_name}: more survivors than members of the cohort"));
    }
    fields.number("heldout_bits_per_byte", f64::MIN_POSITIVE, wrong);
    fields.number("delta", f64::MIN_POSITIVE, wrong);
    let epsilon = fields.number("epsilon", 0.0, wrong);
    if epsilon < epsilon_before {
        wrong.push(format!(
            "{place_name}: epsilon fell from {epsilon_before} to {epsilon}; what was spent stays spent"
        ));
    }
    match Fields::of(&round["seconds"], &format!("{place_name}.seconds"), wrong) {
        Some(seconds) if seconds.values.is_empty() => {
            wrong.push(format!("{place_name}.seconds names no phase"))
        }
        Some(seconds) => {
            for phase in seconds.values.keys() {
                seconds.number(phase, 0.0, wrong);
            }
        }
        None => {}
    }
    epsilon
}

/// The page must show plots and need nothing from elsewhere.
fn check_page(path: &Path, wrong: &mut Vec<String>) {
    let page = match std::fs::read_to_string(path) {
        Ok(page) => page.to_lowercase(),
        Err(error) => return wrong.push(format!("{}: {error}", path.display())),
    };
    for needed in ["<html", "</html>", "<svg"] {
        if !page.contains(needed) {
            wrong.push(format!("{}: no {needed}", path.display()));
        }
    }
    for foreign in ["<script src", "<link", "<iframe", "@import", "src=\"http", "href=\"http", "url(http"] {
        if page.contains(foreign) {
            wrong.push(format!("{}: is not self-contained, it has {foreign}", path.display()));
        }
    }
}

/// The adapter must be in the PEFT layout, with both factors.
fn check_adapter(folder: &Path, wrong: &mut Vec<String>) {
    match read_json(&folder.join("adapter_config.json")) {
        Ok(config) if config["peft_type"] == "LORA" => {}
        Ok(_) => wrong.push("adapter/adapter_config.json: peft_type is not LORA".to_owned()),
        Err(reason) => wrong.push(reason),
    }
    let path = folder.join("adapter_model.safetensors");
    let header = std::fs::read(&path).map_err(|error| error.to_string()).and_then(|bytes| header(&bytes));
    match header {
        Ok(names) => {
            for factor in ["lora_A", "lora_B"] {
                if !names.iter().any(|name| name.contains(factor)) {
                    wrong.push(format!("{}: no tensor is named {factor}", path.display()));
                }
            }
        }
        Err(reason) => wrong.push(format!("{}: {reason}", path.display())),
    }
}

/// Names of the tensors in a safetensors file: eight bytes of length, little-endian, then that much JSON.
fn header(bytes: &[u8]) -> Result<Vec<String>, String> {
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("shorter than its header's length")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|error| error.to_string())?;
    let header = rest.get(..length).ok_or("shorter than its header")?;
    let tensors: Map<String, Value> = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    let ends = tensors.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    let data = (rest.len() - length) as u64;
    match ends.max() {
        Some(end) if end == data => Ok(tensors.into_iter().map(|(name, _)| name).collect()),
        Some(end) => Err(format!("its tensors end at {end}, its data at {data}")),
        None => Err("has no tensors".to_owned()),
    }
}

#[cfg(test)]
mod tests {

    use serde_json::json;

    use super::*;

    fn good() -> Value {
        let round = |number: u64, bits: f64, epsilon: f64| {
            json!({
                "round": number, "cohort": 64, "survivors": 60, "heldout_bits_per_byte": bits,
                "epsilon": epsilon, "delta": 1e-5, "seconds": {"train": 2.5, "unmask": 0.0},
            })
        };
        json!({
            "scenario": {"privacy": {"epsilon_limit": 4.0}},
            "rounds": [round(1, 2.9, 1.5), round(2, 2.8, 2.5)],
            "summary": {
                "heldout_start": 3.0, "heldout_private": 2.8, "heldout_federated_plain": null,
                "heldout_central": null, "recovered_share": null, "dimension": 6144, "epsilon": 2.5,
                "delta": 1e-5, "noise_multiplier": 2.0, "wall_seconds": 60.0,
                "client_updates_per_second": 3.0, "peak_rss_bytes": 1_000_000,
            },
        })
    }

    fn judge(report: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        check_json(report, &mut wrong);
        wrong
    }

    fn safetensors(names: &[&str], data: usize) -> Vec<u8> {
        let tensors: Map<String, Value> = names
            .iter()
            .map(|name| ((*name).to_owned(), json!({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})))
            .collect();
        let header = serde_json::to_vec(&tensors).unwrap();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    /// A complete output folder.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("report.json"), good().to_string()).unwrap();
        std::fs::write(folder.path().join("report.html"), "<!doctype html><html><svg></svg></html>").unwrap();
        let adapter = folder.path().join("adapter");
        std::fs::create_dir(&adapter).unwrap();
        std::fs::write(adapter.join("adapter_config.json"), r#"{"peft_type": "LORA"}"#).unwrap();
        std::fs::write(adapter.join("adapter_model.safetensors"), safetensors(&["x.lora_A", "x.lora_B"], 4))
            .unwrap();
        folder
    }

    #[test]
    fn a_good_report_passes_with_and_without_comparison() {
        assert_eq!(judge(&good()), Vec::<String>::new());
        let mut compared = good();
        for name in ["heldout_federated_plain", "heldout_central", "recovered_share"] {
            compared["summary"][name] = json!(0.9);
        }
        compared["summary"]["peak_rss_bytes"] = Value::Null;
        assert_eq!(judge(&compared), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_figure_is_named() {
        let cases = [
            (
                "/summary/heldout_private",
                json!(3.0),
                "held-out bits per byte did not fall: 3 before, 3 after",
            ),
            ("/summary/heldout_central", json!(2.5), "are neither all numbers nor all null"),
            ("/summary/epsilon", json!(2.4), "summary.epsilon is 2.4, but the last round's is 2.5"),
            (
                "/scenario/privacy/epsilon_limit",
                json!(2.0),
                "epsilon 2.5 is not at most the scenario's limit 2",
            ),
            ("/scenario/privacy/epsilon_limit", Value::Null, "is not at most the scenario's limit NaN"),
            ("/summary/delta", json!(1.0), "summary.delta is 1, not below 1"),
            ("/summary/dimension", json!(0), "summary.dimension is not a whole number of at least 1"),
            ("/summary/peak_rss_bytes", json!(0), "summary.peak_rss_bytes is not a whole number"),
            ("/summary/wall_seconds", json!("60"), "summary.wall_seconds is not a number"),
            ("/rounds/0/survivors", json!(65), "rounds[0]: more survivors than members of the cohort"),
            ("/rounds/1/round", json!(3), "rounds[1] is not round 2"),
            ("/rounds/0/epsilon", json!(2.6), "rounds[1]: epsilon fell from 2.6 to 2.5"),
            ("/rounds/0/seconds", json!({}), "rounds[0].seconds names no phase"),
            ("/rounds/0/seconds/train", Value::Null, "rounds[0].seconds.train is not a number"),
            ("/rounds/0/seconds", json!(3.0), "rounds[0].seconds is not an object"),
            (
                "/rounds/1/heldout_bits_per_byte",
                Value::Null,
                "rounds[1].heldout_bits_per_byte is not a number",
            ),
        ];
        for (place, value, expected) in cases {
            let mut report = good();
            *report.pointer_mut(place).unwrap() = value;
            let wrong = judge(&report);
            assert!(wrong.len() == 1 && wrong[0].contains(expected), "{place}: {wrong:?} is not {expected}");
        }
    }

    /// A report of a run over the network.
    fn over_the_network() -> Value {
        let used = |processes: u64, clients: u64| json!({"processes": processes, "clients": clients, "peak_rss_bytes": 9, "cpu_seconds": 1.5});
        let mut report = good();
        report["network"] = json!({
            "coordinator": used(1, 0), "client_processes": used(8, 8), "fleet_processes": used(2, 92),
            "loopback_bytes": null,
        });
        report["corpus"] = json!({"developers": 100});
        report["simulated_noise_is_seeded"] = json!(false);
        report
    }

    #[test]
    fn a_run_over_the_network_has_processes_and_no_secrets() {
        assert_eq!(judge(&over_the_network()), Vec::<String>::new());
        let cases = [
            (
                "/network/coordinator/processes",
                json!(0),
                "network.coordinator.processes is not a whole number",
            ),
            ("/network/client_processes/peak_rss_bytes", json!(0), "network.client_processes.peak_rss_bytes"),
            ("/network/fleet_processes/clients", json!(91), "its processes have 99 clients"),
            ("/network/fleet_processes", Value::Null, "network.fleet_processes is not an object"),
            ("/simulated_noise_is_seeded", json!(true), "real clients draw their noise"),
        ];
        for (place, value, expected) in cases {
            let mut report = over_the_network();
            *report.pointer_mut(place).unwrap() = value;
            let wrong = judge(&report);
            assert!(
                wrong.iter().any(|wrong| wrong.contains(expected)),
                "{place}: {wrong:?} is not {expected}"
            );
        }
        for name in ["norms", "local_loss", "traffic"] {
            let mut report = over_the_network();
            report["rounds"][1][name] = json!([1.0]);
            assert_eq!(judge(&report), [format!("rounds[1].{name} is not null: only clients know it")]);
        }
    }

    #[test]
    fn each_missing_field_is_noticed() {
        let promised = good();
        for (place, fields) in [("/summary", &promised["summary"]), ("/rounds/0", &promised["rounds"][0])] {
            for name in fields.as_object().unwrap().keys() {
                let mut report = promised.clone();
                report.pointer_mut(place).and_then(Value::as_object_mut).unwrap().remove(name);
                assert!(judge(&report).iter().any(|wrong| wrong.contains(name.as_str())), "{place}/{name}");
            }
        }
        assert!(!judge(&json!({})).is_empty());
        assert!(!judge(&json!({"rounds": [1], "summary": 2})).is_empty());
    }

    #[test]
    fn a_folder_is_judged_as_a_whole() {
        let whole = folder();
        let words = check(whole.path()).unwrap();
        assert!(words.contains("3.0000 -> 2.8000, epsilon 2.500 (limit 4) at delta 1e-5"), "{words}");

        for name in
            ["report.json", "report.html", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"]
        {
            let folder = folder();
            std::fs::remove_file(folder.path().join(name)).unwrap();
            let wrong = check(folder.path()).unwrap_err();
            assert!(wrong.len() == 1 && wrong[0].contains(name), "{name}: {wrong:?}");
        }
    }

    #[test]
    fn spoilt_files_are_named() {
        let page = |tag: &str| format!("<html><svg></svg>{tag}</html>").into_bytes();
        let cut = safetensors(&["x.lora_A", "x.lora_B"], 3);
        let cases: [(&str, Vec<u8>, &str); 8] = [
            ("report.json", b"{\"rounds\": [".to_vec(), "report.json"),
            ("report.html", b"<html></html>".to_vec(), "no <svg"),
            ("report.html", page("<script src=x.js></script>"), "is not self-contained"),
            ("report.html", page("<img src=\"https://example.org/a.png\">"), "is not self-contained"),
            ("adapter/adapter_config.json", b"{}".to_vec(), "peft_type is not LORA"),
            ("adapter/adapter_model.safetensors", cut, "its tensors end at 4, its data at 3"),
            (
                "adapter/adapter_model.safetensors",
                vec![9, 0, 0, 0, 0, 0, 0, 0, b'{'],
                "shorter than its header",
            ),
            ("adapter/adapter_model.safetensors", safetensors(&["x.lora_B"], 4), "no tensor is named lora_A"),
        ];
        for (name, bytes, expected) in cases {
            let folder = folder();
            std::fs::write(folder.path().join(name), bytes).unwrap();
            let wrong = check(folder.path()).unwrap_err();
            assert!(wrong.len() == 1 && wrong[0].contains(expected), "{name}: {wrong:?} is not {expected}");
        }
    }
}
