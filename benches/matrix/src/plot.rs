//! The figures as SVG: lines over a few places, one line for each server.
//!
//! They have a background of their own, so they can be read on light and on dark pages. The same figures
//! give the same bytes.

use anyhow::anyhow;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::cell::{Cell, Contender, Pace, SIZE_OF_PLOTS, SIZES, STREAMS, STREAMS_OF_PLOTS, Variant};
use crate::figures::{Figures, Metric};
use crate::row::Row;
use downpour_load::statistics::Quartiles;
use downpour_load::units::{BYTES, COUNTS, TIMES, Unit, grouped, on_axis, size};

/// A plot as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    pub(crate) svg: String,
}

/// Draws all plots that have figures.
///
/// # Errors
/// If a plot cannot be drawn, which no figures should cause.
pub(crate) fn plots(rows: &[Row]) -> anyhow::Result<Vec<Drawn>> {
    let figures = Figures::of(rows);
    let drawn = PLOTS.iter().filter_map(|plot| {
        let lines = plot.lines(&figures);
        (!lines.is_empty())
            .then(|| Ok(Drawn { file: plot.file, title: plot.title, svg: draw(plot, &lines)? }))
    });
    drawn.collect()
}

/// The content of a plot.
struct Plot {
    file: &'static str,
    title: &'static str,
    x: Along,
    y_title: &'static str,
    units: &'static [Unit],
    pace: Pace,
    metric: Metric,
    /// For servers that are very far apart.
    is_logarithmic: bool,
}

/// What differs between places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Along {
    Streams,
    Sizes,
}

const PLOTS: [Plot; 4] = [
    Plot {
        file: "cpu.svg",
        title: "CPU for a delivery, each event alone (64 B, 1 channel)",
        x: Along::Streams,
        y_title: "server CPU time",
        units: &TIMES,
        pace: Pace::Unbatched,
        metric: |row| row.cpu_ns_per_delivery,
        is_logarithmic: false,
    },
    Plot {
        file: "deliveries.svg",
        title: "Deliveries, as fast as taken (10 000 streams, 1 channel)",
        x: Along::Sizes,
        y_title: "deliveries each second",
        units: &COUNTS,
        pace: Pace::Saturated,
        metric: |row| row.deliveries_per_second,
        is_logarithmic: true,
    },
    Plot {
        file: "latency.svg",
        title: "Latency at half of what is taken (64 B, 1 channel)",
        x: Along::Streams,
        y_title: "latency, p99",
        units: &TIMES,
        pace: Pace::Half,
        metric: |row| Some(row.latency_p99_ns? as f64),
        is_logarithmic: true,
    },
    Plot {
        file: "memory.svg",
        title: "Memory for an idle stream (1 channel)",
        x: Along::Streams,
        y_title: "resident memory of the process",
        units: &BYTES,
        pace: Pace::Unbatched,
        metric: |row| row.rss_bytes_per_stream,
        is_logarithmic: true,
    },
];

/// The figures of one server, by place.
type Line = (Contender, Vec<(usize, Quartiles)>);

impl Along {
    fn places(self) -> Vec<(Cell, String)> {
        let cell = |streams, size_bytes| Cell { variant: Variant::Plain, size_bytes, channels: 1, streams };
        match self {
            Along::Streams => STREAMS.map(|streams| (cell(streams, SIZE_OF_PLOTS), grouped(streams))).into(),
            Along::Sizes => SIZES.map(|bytes| (cell(STREAMS_OF_PLOTS, bytes), size(bytes))).into(),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Along::Streams => "streams",
            Along::Sizes => "data of an event",
        }
    }
}

impl Plot {
    fn lines(&self, figures: &Figures<'_>) -> Vec<Line> {
        let places = self.x.places();
        let line = |contender| {
            let points = places.iter().enumerate().filter_map(|(place, (cell, _))| {
                let quartiles = figures.quartiles(*cell, self.pace, contender, self.metric)?;
                // A logarithm needs positive values.
                (!self.is_logarithmic || quartiles.lower > 0.0).then_some((place, quartiles))
            });
            (contender, points.collect::<Vec<_>>())
        };
        Contender::ALL.map(line).into_iter().filter(|(_, points)| !points.is_empty()).collect()
    }
}

fn draw(plot: &Plot, lines: &[Line]) -> anyhow::Result<String> {
    let quartiles = || lines.iter().flat_map(|(_, points)| points.iter().map(|(_, quartiles)| quartiles));
    let least = quartiles().map(|quartiles| quartiles.lower).fold(f64::INFINITY, f64::min);
    let most = quartiles().map(|quartiles| quartiles.upper).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = String::new();
    // The library's errors borrow from the drawing area.
    let drawn = if plot.is_logarithmic {
        let (from, to) =
            (10_f64.powf((least * 0.9).log10().floor()), 10_f64.powf((most * 1.1).log10().ceil()));
        draw_over(plot, lines, Powers { from, to }, &mut svg).map_err(|error| anyhow!("{error}"))
    } else {
        let range: plotters::coord::types::RangedCoordf64 = (0.0..most * 1.15).into();
        draw_over(plot, lines, range, &mut svg).map_err(|error| anyhow!("{error}"))
    };
    drawn?;
    Ok(svg)
}

fn draw_over<'a, Y>(
    plot: &Plot,
    lines: &[Line],
    y: Y,
    svg: &'a mut String,
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let places = plot.x.places();
    let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&GROUND)?;
    let centred =
        TextStyle::from(("sans-serif", 19).into_font()).color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
    root.draw(&Text::new(plot.title, (WIDTH_PX / 2, 20), centred))?;
    let mut chart = ChartBuilder::on(&root)
        .margin_top(66)
        .margin_bottom(8)
        .margin_left(8)
        .margin_right(16)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(Places(places.len()), y)?;
    let label = ("sans-serif", 16).into_font().color(&INK);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(AXIS)
        .label_style(label.clone())
        .axis_desc_style(label)
        .x_desc(plot.x.title())
        .y_desc(plot.y_title)
        .x_label_formatter(&|&at| {
            places.get(at.round() as usize).map_or_else(String::new, |place| place.1.clone())
        })
        .y_label_formatter(&|&number| on_axis(number, plot.units))
        .y_labels(8)
        .draw()?;
    for (at, (contender, points)) in lines.iter().enumerate() {
        // Side by side, so that none hides another.
        let aside = (at as f64 - (lines.len() - 1) as f64 / 2.0) * ASIDE;
        let x = |place: usize| place as f64 + aside;
        let colour = colour(*contender);
        let medians: Vec<(f64, f64)> = points.iter().map(|&(place, of)| (x(place), of.median)).collect();
        chart.draw_series([PathElement::new(medians.clone(), colour.stroke_width(2))])?;
        chart.draw_series(points.iter().map(|&(place, of)| {
            PathElement::new(vec![(x(place), of.lower), (x(place), of.upper)], colour.stroke_width(1))
        }))?;
        chart.draw_series(medians.into_iter().map(|point| Circle::new(point, 4, colour.filled())))?;
    }
    draw_legend(&root, lines)?;
    root.present()
}

/// One line under the title.
fn draw_legend<'a>(
    root: &DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
    lines: &[Line],
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
    let style =
        TextStyle::from(("sans-serif", 16).into_font()).color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    let widths = lines.iter().map(|(contender, _)| legend_width(*contender));
    let mut x = (WIDTH_PX + LEGEND_GAP - widths.sum::<i32>()) / 2;
    for (contender, _) in lines {
        let colour = colour(*contender);
        root.draw(&PathElement::new(vec![(x, LEGEND_Y), (x + 22, LEGEND_Y)], colour.stroke_width(2)))?;
        root.draw(&Circle::new((x + 11, LEGEND_Y), 4, colour.filled()))?;
        root.draw(&Text::new(contender.label(), (x + 28, LEGEND_Y), style.clone()))?;
        x += legend_width(*contender);
    }
    Ok(())
}

/// The viewer chooses the font. This is the width that most need, with some room.
fn legend_width(contender: Contender) -> i32 {
    28 + 7 * contender.label().len() as i32 + LEGEND_GAP
}

/// Colours that people with red-green blindness can distinguish too.
fn colour(contender: Contender) -> RGBColor {
    match contender {
        Contender::Epoll => RGBColor(0, 114, 178),
        Contender::Uring => RGBColor(213, 94, 0),
        Contender::Nchan => RGBColor(0, 158, 115),
        Contender::BetterSse => RGBColor(160, 90, 150),
    }
}

/// An axis with this many places, counted from 0.
struct Places(usize);

impl Ranged for Places {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value + 0.5) / self.0 as f64;
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        (0..self.0).map(|place| place as f64).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        -0.5..self.0 as f64 - 0.5
    }
}

impl ValueFormatter<f64> for Places {}

/// A logarithmic axis between two powers of ten. Each power has a label; if they are few, values in
/// between have one too.
struct Powers {
    from: f64,
    to: f64,
}

impl Ranged for Powers {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value / self.from).ln() / (self.to / self.from).ln();
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        let decades = (self.to / self.from).log10().round() as i32;
        let steps: &[f64] = if decades <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let points =
            (0..=decades).flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
        points.map(|point| self.from * point).filter(|&point| point <= self.to * 1.001).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Powers {}

const WIDTH: u32 = 720;
const HEIGHT: u32 = 400;
const WIDTH_PX: i32 = 720;
const LEGEND_Y: i32 = 48;
const LEGEND_GAP: i32 = 26;

/// The distance between servers at a place, in places.
const ASIDE: f64 = 0.03;

const GROUND: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(40, 44, 52);
const AXIS: RGBColor = RGBColor(120, 124, 132);
const GRID: RGBColor = RGBColor(222, 224, 228);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Run, cells, runs};
    use crate::row::tests::row;

    fn rows(contenders: &[Contender]) -> Vec<Row> {
        let figure = |run: &Run| Row {
            cpu_ns_per_delivery: Some(4000.0 + run.cell.streams as f64 / 100.0 + f64::from(run.repeat)),
            ..row(*run)
        };
        runs(&cells(), contenders, 3, |_| true).iter().map(figure).collect()
    }

    fn texts(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).expect("a plot is well-formed XML");
        assert_eq!(document.root_element().tag_name().name(), "svg");
        let nodes =
            document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")));
        nodes.map(|node| node.text().unwrap_or_default().trim().replace('\u{a0}', " ")).collect()
    }

    #[test]
    fn plots_are_small_well_formed_and_say_what_they_show() {
        let drawn = plots(&rows(&Contender::ALL)).unwrap();
        assert_eq!(
            drawn.iter().map(|drawn| drawn.file).collect::<Vec<_>>(),
            ["cpu.svg", "deliveries.svg", "latency.svg", "memory.svg"]
        );
        for Drawn { file, svg, .. } in &drawn {
            assert!(svg.len() < 16 << 10, "{file} has {} bytes", svg.len());
            let texts = texts(svg);
            let has = |text: &str| texts.iter().any(|found| found == text);
            assert!(Contender::ALL.iter().all(|contender| has(contender.label())), "{texts:?}");
            let [first, last, title] = if *file == "deliveries.svg" {
                ["64 B", "16 KiB", "data of an event"]
            } else {
                ["1 000", "15 000", "streams"]
            };
            assert!(has(first) && has(last) && has(title), "{file}: {texts:?}");
        }
        assert_eq!(drawn, plots(&rows(&Contender::ALL)).unwrap(), "the same figures give the same bytes");
    }

    #[test]
    fn a_plot_without_figures_is_left_out_and_so_is_a_server() {
        let mut rows = rows(&[Contender::Epoll]);
        rows.retain(|row| row.pace == Pace::Unbatched);
        let drawn = plots(&rows).unwrap();
        assert_eq!(drawn.iter().map(|drawn| drawn.file).collect::<Vec<_>>(), ["cpu.svg", "memory.svg"]);
        assert!(!texts(&drawn[0].svg).iter().any(|text| text == Contender::Uring.label()));
        assert!(plots(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_logarithmic_axis_has_its_powers_and_more_where_these_are_few() {
        let points = |from, to| Powers { from, to }.key_points(10);
        assert_eq!(points(100.0, 1000.0), [100.0, 200.0, 500.0, 1000.0]);
        assert_eq!(points(1.0, 1e4), [1.0, 10.0, 100.0, 1000.0, 1e4]);
        let axis = Powers { from: 1.0, to: 100.0 };
        assert_eq!([1.0, 10.0, 100.0].map(|value| axis.map(&value, (200, 0))), [200, 100, 0]);
    }
}
