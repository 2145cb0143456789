//! Instructions of the hot paths, as `ci/instructions.sh` counts them.

use std::path::Path;
use std::process::Command;

/// Name and instructions, in the order of the script; or why there are none.
pub fn count() -> Result<Vec<(String, f64)>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("ci/instructions.sh");
    if !script.exists() {
        return Err("ci/instructions.sh is not here: this is not the repository".to_string());
    }
    let out = Command::new("bash")
        .arg(&script)
        .arg("--plain")
        .output()
        .map_err(|e| format!("{}: {e}", script.display()))?;
    if !out.status.success() {
        return Err(format!(
            "ci/instructions.sh failed: {}",
            String::from_utf8_lossy(&out.stderr).trim()
        ));
    }
    let line = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_string(), count.trim().parse().ok()?))
    };
    let counts: Vec<_> = String::from_utf8_lossy(&out.stdout).lines().filter_map(line).collect();
    if counts.is_empty() {
        Err("nothing was counted: no valgrind, or not x86-64".to_string())
    } else {
        Ok(counts)
    }
}
