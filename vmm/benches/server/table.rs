//! What the runs say, as medians.

use crate::contenders::Contender;
use crate::guests::Run;
use crate::{CONTENDERS, Row};
use comfy_table::{Table, presets::ASCII_MARKDOWN};

fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * at).round() as usize]
}

impl Row {
    fn get(&self, contender: Contender, what: impl Fn(&Run) -> f64) -> f64 {
        let i = CONTENDERS.iter().position(|&other| other == contender).unwrap();
        median(self.runs[i].iter().map(what).collect())
    }

    /// The toolkit's upper quartile of speed over another's: the rounds in which the machine did
    /// little else.
    fn undisturbed(&self, other: Contender) -> f64 {
        let of = |contender| {
            let i = CONTENDERS.iter().position(|&c| c == contender).unwrap();
            quantile(self.runs[i].iter().map(|run| run.pages_per_second).collect(), 0.75)
        };
        of(Contender::Toolkit) / of(other)
    }

    /// The toolkit's figure over another's, run by run: the two stand side by side in time.
    fn ratio(&self, other: Contender, what: impl Fn(&Run) -> f64) -> f64 {
        let of = |contender| &self.runs[CONTENDERS.iter().position(|&c| c == contender).unwrap()];
        let pairs = of(Contender::Toolkit).iter().zip(of(other));
        median(pairs.map(|(ours, theirs)| what(ours) / what(theirs)).collect())
    }
}

fn mean(ratios: impl Iterator<Item = f64>) -> f64 {
    let logs: Vec<f64> = ratios.map(f64::ln).collect();
    (logs.iter().sum::<f64>() / logs.len() as f64).exp()
}

pub fn print(rows: &[Row], rounds: usize) {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "store",
        "handlers",
        "server",
        "pages/s",
        "p50",
        "p99",
        "p999",
        "CPU/page",
        "duplicates",
    ]);
    let micros = |nanos: f64| format!("{:.1} µs", nanos / 1000.0);
    for row in rows {
        for contender in CONTENDERS {
            let at = |quantile: f64| {
                micros(row.get(contender, |run| run.stalls.value_at_quantile(quantile) as f64))
            };
            table.add_row([
                format!("{} µs", row.store),
                row.handlers.to_string(),
                contender.name().to_owned(),
                format!("{:.0}", row.get(contender, |run| run.pages_per_second)),
                at(0.5),
                at(0.99),
                at(0.999),
                micros(row.get(contender, |run| run.cpu_per_page)),
                format!("{:.0}", row.get(contender, |run| run.duplicates as f64)),
            ]);
        }
    }
    println!(
        "{table}\n\nmedians of {rounds} rounds; ratios, run by run, toolkit over the other:\n"
    );
    let speed = |run: &Run| run.pages_per_second;
    let cpu = |run: &Run| run.cpu_per_page;
    let others = [Contender::Map, Contender::States, Contender::BigMutex, Contender::Bare];
    for (other, bar) in others.into_iter().zip([" (bar >= 1)", " (bar >= 1)", "", ""]) {
        let all = mean(rows.iter().map(|row| row.ratio(other, speed)));
        let best = mean(rows.iter().map(|row| row.undisturbed(other)));
        println!(
            "pages/s over {}: {all:.3} in the mean over rows{bar}; of upper quartiles {best:.3}",
            other.name()
        );
    }
    for row in rows.iter().filter(|row| row.store == 200 && row.handlers > 1) {
        let ratio = row.ratio(Contender::BigMutex, speed);
        println!(
            "pages/s over (a) at 200 µs with {} handlers: {ratio:.2} (bar >= 1.3)",
            row.handlers
        );
    }
    for (other, bar) in others.into_iter().zip(["", "", "", " (bar <= 1.05)"]) {
        let all = mean(rows.iter().map(|row| row.ratio(other, cpu)));
        let each: Vec<String> =
            rows.iter().map(|row| format!("{:.2}", row.ratio(other, cpu))).collect();
        println!(
            "CPU/page over {}: {all:.3} in the mean over rows{bar}; row by row {}",
            other.name(),
            each.join(" ")
        );
    }
}
