//! The chart: bars per measure, by the bare hosts' median, with their spread. Plain SVG that
//! follows the reader's light or dark scheme.

use std::fmt::Write;

use super::measures::Figure;
use super::results::Results;
use super::variants::{Group, Variant};

const BAR: f64 = 13.0;
const GAP: f64 = 3.0;
/// Between the bars of two measures.
const STEP: f64 = 16.0;
/// Where bars begin.
const LEFT: f64 = 268.0;
const WIDTH: f64 = 860.0;
const TOP: f64 = 104.0;

/// Colours that are told apart by most eyes (after Okabe and Ito), on light and on dark ground.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}\
.t{font-size:17px;font-weight:600}.s{font-size:12px;fill:#59636e}.e{text-anchor:end}\
.g{stroke:#d1d9e0}.one{stroke:#59636e;stroke-dasharray:4 3}\
.w{stroke:#1f2328;stroke-width:1.2}.bg{fill:#ffffff}\
.bare{fill:#8c959f}.bare-rules{fill:#56b4e9}.vxlan{fill:#cc79a7}\
.docker-overlay{fill:#e69f00}.weft-bridge{fill:#66c2a5}.weft-shortcut{fill:#007a5e}\
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.s{fill:#9198a1}.bg{fill:#0d1117}\
.g{stroke:#3d444d}.one{stroke:#9198a1}.w{stroke:#f0f6fc}.weft-shortcut{fill:#00b388}.weft-bridge{fill:#4d8f7c}}";

/// All variants between hosts, all figures that the bare hosts have as well. The 99th percentiles
/// are in the tables only.
pub(crate) fn svg(results: &Results) -> String {
    let wanted = |v: &Variant| v.group() == Group::Hosts && results.has(*v);
    let variants: Vec<Variant> = Variant::all().iter().copied().filter(wanted).collect();
    let drawn = |figure: &Figure| {
        !matches!(figure, Figure::UdpP99 | Figure::TcpP99)
            && results.summary(Variant::Bare, *figure).is_some()
    };
    let figures = results.figures().into_iter().filter(drawn);
    let (times, rates): (Vec<Figure>, Vec<Figure>) = figures.partition(|f| f.is_time());
    let mut body = String::new();
    let mut y = TOP;
    for (title, figures) in
        [("Time of a round trip: shorter is better", times), ("Rates: longer is better", rates)]
    {
        if !figures.is_empty() {
            y = panel(&mut body, y, title, results, &figures, &variants);
        }
    }
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" role=\"img\">\n\
         <title>Weft beside the bare host network, the kernel's VXLAN and Docker's overlay</title>\n\
         <style>{STYLE}</style>\n<rect class=\"bg\" width=\"{WIDTH}\" height=\"{y}\"/>\n\
         <text class=\"t\" x=\"16\" y=\"28\">From host to host; the bare host network is 1</text>\n"
    );
    legend(&mut text, &variants);
    text + &body + "</svg>\n"
}

fn legend(text: &mut String, variants: &[Variant]) {
    for (place, variant) in (0_u8..).zip(variants) {
        let (x, y) = (16.0 + f64::from(place % 3) * 270.0, 46.0 + f64::from(place / 3) * 22.0);
        let _ = writeln!(
            text,
            "<rect class=\"{}\" x=\"{x}\" y=\"{y}\" width=\"13\" height=\"13\" rx=\"2\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            variant.name(),
            x + 20.0,
            y + 11.0,
            variant.title()
        );
    }
}

/// Bars of some figures below each other; gives where it ends.
fn panel(
    text: &mut String,
    top: f64,
    title: &str,
    results: &Results,
    figures: &[Figure],
    variants: &[Variant],
) -> f64 {
    let by_bare = |v: &Variant, figure: &Figure| results.ratio(*v, Variant::Bare, *figure);
    let all = figures.iter().flat_map(|figure| variants.iter().filter_map(|v| by_bare(v, figure)));
    let longest = all.map(|ratio| ratio.most.max(ratio.median)).fold(1.0, f64::max);
    // Room for the number at the end of the longest bar.
    let unit = (WIDTH - LEFT - 120.0) / longest;
    let _ = writeln!(text, "<text class=\"s\" x=\"16\" y=\"{}\">{title}</text>", top + 12.0);
    let first = top + 26.0;
    let mut y = first;
    let mut bars = String::new();
    for figure in figures {
        let begin = y;
        for variant in variants {
            let Some(ratio) = by_bare(variant, figure) else { continue };
            let value = results.summary(*variant, *figure).map_or(f64::NAN, |s| s.median);
            let label = format!("{:.2} · {} {}", ratio.median, figure.show(value), figure.unit());
            let ends = [ratio.median, ratio.least, ratio.most].map(|r| r * unit);
            bar(&mut bars, y, &variant.name(), ends, &label);
            y += BAR + GAP;
        }
        let middle = f64::midpoint(begin, y) + 3.0;
        let (x, title) = (LEFT - 12.0, figure.title());
        let _ = writeln!(bars, "<text class=\"e\" x=\"{x}\" y=\"{middle:.1}\">{title}</text>");
        y += STEP;
    }
    let (last, one) = (y - STEP, LEFT + unit);
    let _ = writeln!(
        text,
        "<line class=\"g\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"{first}\" y2=\"{last}\"/>\n{bars}\
         <line class=\"one\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{first}\" y2=\"{last}\"/>"
    );
    y + 10.0
}

/// A bar, its spread and its number.
fn bar(text: &mut String, y: f64, class: &str, [median, least, most]: [f64; 3], label: &str) {
    let (middle, end) = (y + BAR / 2.0, most.max(median));
    let _ = writeln!(
        text,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{median:.1}\" height=\"{BAR}\" rx=\"2\"/>\
         <line class=\"w\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
         <text class=\"s\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
        LEFT + least,
        LEFT + most,
        LEFT + end + 6.0,
        y + BAR - 2.5
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measured_variant_has_its_bar() {
        let mut results = Results::default();
        results.begin_round(0);
        for (variant, value) in
            [(Variant::Bare, 20.0), (Variant::WeftShortcut, 23.0), (Variant::LocalWeft, 9.0)]
        {
            results.note(variant, Figure::UdpP50, value);
            results.note(variant, Figure::UdpP99, value);
        }
        let text = svg(&results);
        // One in the legend, one bar.
        assert_eq!(text.matches("class=\"weft-shortcut\"").count(), 2, "{text}");
        assert!(text.contains(">1.15 · 23.0 µs<"), "{text}");
        assert!(!text.contains("local-weft"), "{text}");
        assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
    }

    #[test]
    fn nothing_measured_is_an_empty_chart() {
        assert!(svg(&Results::default()).ends_with("</svg>\n"));
    }
}
