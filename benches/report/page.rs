//! The results as one HTML page that needs nothing else: pictures are in it, and there is no script.

use crate::markdown::{bars, losses, machine, noise, title};
use crate::picture::picture;
use crate::results::Results;
use crate::support::parts::PARTS;
use std::error::Error;

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:1250px;margin:2em auto;padding:0 1em;color:#222}\
    table{border-collapse:collapse;margin:.7em 0 1.4em;font-size:13px;display:block;overflow-x:auto}\
    th,td{border:1px solid #ccc;padding:.2em .6em;text-align:right;white-space:nowrap}th{background:#f2f2f2}\
    th:first-child,td:first-child{text-align:left}h2{border-bottom:1px solid #999;margin-top:2em}\
    svg{max-width:100%;height:auto}nav a{margin-right:1em}.busy{background:#fdd;padding:.5em}";

pub fn html(results: &Results) -> Result<String, Box<dyn Error>> {
    let parts: Vec<&str> = PARTS.into_iter().filter(|part| results.tables.0.iter().any(|t| t.head.part == *part)).collect();
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>pagelock, measured</title><style>{STYLE}</style></head>\n\
         <body><h1>pagelock, measured</h1>\n"
    );
    if results.machine.was_busy() {
        page +=
            "<p class=\"busy\"><b>Something else was running when this began. The figures are not to be relied on.</b></p>\n";
    }
    page += &from_markdown(&machine(results));
    page += "<nav><a href=\"#bars\">Bars</a><a href=\"#losses\">Where we lose</a>";
    for part in &parts {
        page += &format!("<a href=\"#{part}\">{}</a>", title(part));
    }
    page += "<a href=\"#noise\">Noise</a></nav>\n";
    page += &format!("<h2 id=\"bars\">Bars</h2>\n{}", from_markdown(&bars(results)));
    page += &format!("<h2 id=\"losses\">Where we lose</h2>\n{}", from_markdown(&losses(results)));
    for part in parts {
        page += &format!("<h2 id=\"{part}\">{}</h2>\n", title(part));
        for table in results.tables.0.iter().filter(|table| table.head.part == part) {
            page += &from_markdown(&table.markdown(results.machine.cores));
            page += &picture(table, results.machine.cores)?.unwrap_or_default();
        }
    }
    page += &format!("<h2 id=\"noise\">Noise</h2>\n{}</body></html>\n", from_markdown(&noise(results)));
    Ok(page)
}

/// As much of markdown as our own documents use: paragraphs, tables, and what is bold.
fn from_markdown(text: &str) -> String {
    let mut html = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with('|') {
            if !line.is_empty() {
                html += &format!("<p>{}</p>\n", inline(line));
            }
            continue;
        }
        let row = |line: &str, cell: &str| {
            let cells = line.trim_matches('|').split('|').map(|c| format!("<{cell}>{}</{cell}>", inline(c.trim())));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        html += &format!("<table>\n{}", row(line, "th"));
        // The line that says how columns are aligned.
        lines.next();
        while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
            html += &row(line, "td");
        }
        html += "</table>\n";
    }
    html
}

fn inline(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut parts = text.split("**");
    let mut html = parts.next().unwrap_or_default().to_string();
    for (index, part) in parts.enumerate() {
        html += if index % 2 == 0 { "<b>" } else { "</b>" };
        html += part;
    }
    html
}
