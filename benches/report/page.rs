//! The results as one HTML page that needs nothing else: pictures are in it, and there is no
//! script.

use crate::markdown::{bars, losses, machine, noise, title};
use crate::picture::picture;
use crate::results::Results;
use crate::support::parts::PARTS;
use std::error::Error;

/// Texts wrap, figures do not but between a median and its spread: so a table fits the window,
/// where that is possible at all.
const STYLE: &str = "\
    :root{color-scheme:light dark}\
    body{font:16px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;\
    color:#222;background:#fff}\
    table{border-collapse:collapse;margin:.7em 0 1.4em;font-size:14px;\
    display:block;overflow-x:auto}\
    th,td{border:1px solid #bbb;padding:.25em .6em;text-align:left;vertical-align:top}\
    th{background:#eee}.n{text-align:right}.n span,.n small{white-space:nowrap}\
    small{font-size:12px;color:#555}\
    h2{border-bottom:1px solid #999;margin-top:2em}\
    svg{max-width:100%;height:auto;background:#fff}nav a{margin-right:1em}\
    .busy{background:#fdd;padding:.5em;color:#222}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#16181c}\
    th{background:#2a2d33}th,td{border-color:#555}\
    small{color:#aaa}a{color:#8bf}}\
    @media print{body{max-width:none;margin:0;font-size:11pt}\
    table{font-size:9pt;display:table}small{font-size:8pt}nav{display:none}\
    svg,tr{break-inside:avoid}h2{break-after:avoid}}";

pub fn html(results: &Results) -> Result<String, Box<dyn Error>> {
    let parts: Vec<&str> = PARTS
        .into_iter()
        .filter(|part| results.tables.0.iter().any(|t| t.head.part == *part))
        .collect();
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>pagelock, measured</title><style>{STYLE}</style></head>\n\
         <body><h1>pagelock, measured</h1>\n"
    );
    if results.machine.was_busy() {
        page += "<p class=\"busy\"><b>Something else was running when this began. \
                 Do not rely on the figures.</b></p>\n";
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
    page +=
        &format!("<h2 id=\"noise\">Noise</h2>\n{}</body></html>\n", from_markdown(&noise(results)));
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
        // Below the names, how each column is aligned: figures to the right.
        let is_figure: Vec<bool> =
            cells(lines.next().unwrap_or_default()).map(|to| to.ends_with(':')).collect();
        let row = |line: &str, cell: &str| {
            let cells = cells(line).enumerate().map(|(index, text)| match is_figure.get(index) {
                Some(true) => format!("<{cell} class=\"n\">{}</{cell}>", figure(text)),
                _ => format!("<{cell}>{}</{cell}>", inline(text)),
            });
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        html += &format!("<table>\n{}", row(line, "th"));
        while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
            html += &row(line, "td");
        }
        html += "</table>\n";
    }
    html
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.trim().trim_start_matches('|').trim_end_matches('|').split('|').map(str::trim)
}

/// A median, and its spread in parentheses, which may go to a line of its own.
fn figure(text: &str) -> String {
    match text.strip_prefix("**").map_or(text, |bold| bold.trim_end_matches("**")).split_once(" (")
    {
        Some((median, spread)) if text.starts_with("**") => {
            format!("<span><b>{}</b></span> <small>({}</small>", inline(median), inline(spread))
        }
        Some((median, spread)) => {
            format!("<span>{}</span> <small>({}</small>", inline(median), inline(spread))
        }
        None => format!("<span>{}</span>", inline(text)),
    }
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
