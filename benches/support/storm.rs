//! The storm example, run as the program that it is: a process of its own has its own signal
//! handler, its own idle workers, and its own account of processor time.

use serde::Deserialize;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A strategy by its name on the storm's command line, and in a table.
pub const STRATEGIES: [(&str, &str); 5] = [
    ("retry", "try and retry"),
    ("reference", "reference and sleep"),
    ("entry", "entry in the fault"),
    ("wait", "wait"),
    ("lock", "wait, then lock"),
];

pub const MEMORIES: [(&str, &str); 3] = [
    ("software", "faults in software, 2 mappings"),
    ("anon", "userfaultfd, 1 mapping"),
    ("memfd", "userfaultfd, 2 mappings"),
];

/// Part of what the storm says of one run.
#[derive(Clone, Debug, Deserialize)]
pub struct Outcome {
    pub memory: String,
    pub strategy: String,
    pub seconds: f64,
    pub accesses: u64,
    pub faults: u64,
    pub retries_per_migration: f64,
    pub most_retries: u64,
    pub spins: u64,
    pub migrated_out: u64,
    pub migrated_back: u64,
    pub migrated_ahead: u64,
    pub aborted_refs: u64,
    pub cpu_seconds: f64,
    pub fault_ns_p50: u64,
    pub fault_ns_p99: u64,
    pub fault_ns_max: u64,
}

impl Outcome {
    pub fn faults_per_cpu_second(&self) -> f64 {
        self.faults as f64 / self.cpu_seconds.max(1e-3)
    }

    /// Attempts that found the page locked and did not sleep, for each migration.
    pub fn spins_per_migration(&self) -> f64 {
        self.spins as f64 / self.migrations().max(1) as f64
    }

    fn migrations(&self) -> u64 {
        self.migrated_out + self.migrated_back + self.migrated_ahead
    }

    /// Migrations that references of waiters made fail, for each that went well.
    pub fn aborted_per_migration(&self) -> f64 {
        self.aborted_refs as f64 / self.migrations().max(1) as f64
    }
}

pub struct Storm {
    program: PathBuf,
}

impl Storm {
    /// Builds the program once, with the cargo that runs us. An error says why there is none.
    pub fn build() -> Result<Self, String> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        BUILT.get_or_init(Self::build_now).clone().map(|program| Self { program })
    }

    fn build_now() -> Result<PathBuf, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let root = env!("CARGO_MANIFEST_DIR");
        let out = Command::new(cargo)
            .current_dir(root)
            .args([
                "build",
                "--quiet",
                "--release",
                "--package",
                "pagelock-storm",
                "--example",
                "storm",
                "--message-format",
                "json-render-diagnostics",
            ])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| format!("no cargo to build the storm with: {e}"))?;
        if !out.status.success() {
            return Err("the storm could not be built".to_string());
        }
        let executable = |line: &str| {
            let said: serde_json::Value = serde_json::from_str(line).ok()?;
            said["executable"].as_str().map(PathBuf::from)
        };
        let program =
            String::from_utf8_lossy(&out.stdout).lines().filter_map(executable).next_back();
        program.ok_or_else(|| "cargo did not say where the storm is".to_string())
    }

    /// One strategy on one kind of memory for its time. There is always more work than that.
    pub fn run(
        &self,
        strategy: &str,
        memory: &str,
        faulters: usize,
        seconds: f64,
    ) -> Result<Outcome, String> {
        let result =
            std::env::temp_dir().join(format!("pagelock-storm-{}.json", std::process::id()));
        let out = Command::new(&self.program)
            .args(["--strategy", strategy, "--memory", memory])
            .args([
                "--threads",
                &faulters.to_string(),
                "--seconds",
                &seconds.to_string(),
                "--work",
                "1000000000",
            ])
            .arg("--json")
            .arg(&result)
            .output()
            .map_err(|e| format!("{}: {e}", self.program.display()))?;
        if !out.status.success() {
            return Err(format!(
                "the storm failed: {}",
                String::from_utf8_lossy(&out.stderr).trim()
            ));
        }
        let text =
            std::fs::read_to_string(&result).map_err(|e| format!("{}: {e}", result.display()))?;
        let _ = std::fs::remove_file(&result);
        let mut outcomes: Vec<Outcome> =
            serde_json::from_str(&text).map_err(|e| format!("the storm's results: {e}"))?;
        outcomes.pop().ok_or_else(|| "the storm had no results".to_string())
    }
}
