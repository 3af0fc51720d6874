//! The matrix: servers, cells, paces, and the order of runs.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A server that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// downpour serve --io epoll.
    Epoll,
    /// downpour serve --io uring.
    Uring,
    /// nginx with the module nchan.
    Nchan,
    /// Node with the package better-sse.
    BetterSse,
}

/// The difference of a cell's streams from plain ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Variant {
    #[serde(rename = "plain")]
    Plain,
    /// All are requested by HTTP/1.0, so they come without chunked coding.
    #[serde(rename = "http1.0")]
    Http10,
    /// One in ten reads slowly.
    #[serde(rename = "slow")]
    Slow,
}

/// When events are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pace {
    /// Each once every stream has the one before.
    Unbatched,
    /// As fast as they are taken.
    Saturated,
    /// At half the rate of saturation.
    Half,
}

/// A load, without its pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cell {
    pub(crate) variant: Variant,
    pub(crate) size_bytes: u64,
    pub(crate) channels: u64,
    pub(crate) streams: u64,
}

/// One run of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Run {
    pub(crate) cell: Cell,
    pub(crate) pace: Pace,
    pub(crate) contender: Contender,
    /// Counted from 1.
    pub(crate) repeat: u32,
}

impl Contender {
    pub(crate) const ALL: [Contender; 4] =
        [Contender::Epoll, Contender::Uring, Contender::Nchan, Contender::BetterSse];

    /// Returns true if and only if it is not our server.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Contender::Nchan | Contender::BetterSse)
    }

    /// The name for people.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Contender::Epoll => "downpour, epoll",
            Contender::Uring => "downpour, io_uring",
            Contender::Nchan => "nginx + nchan",
            Contender::BetterSse => "Node + better-sse",
        }
    }

    /// Peers are far slower. They run only in cells that a plot or a table shows: along the streams and
    /// along the sizes.
    fn runs(self, cell: Cell) -> bool {
        let is_on_a_plot = cell.streams == STREAMS_OF_PLOTS || cell.size_bytes == SIZE_OF_PLOTS;
        !self.is_peer() || (cell.variant == Variant::Plain && cell.channels == 1 && is_on_a_plot)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Contender::Epoll => "epoll",
            Contender::Uring => "uring",
            Contender::Nchan => "nchan",
            Contender::BetterSse => "better-sse",
        })
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Plain => "plain",
            Variant::Http10 => "http1.0",
            Variant::Slow => "slow",
        })
    }
}

impl Pace {
    /// Half comes last, as it takes its rate from saturation.
    pub(crate) const ALL: [Pace; 3] = [Pace::Unbatched, Pace::Saturated, Pace::Half];
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pace::Unbatched => "unbatched",
            Pace::Saturated => "saturated",
            Pace::Half => "half",
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { variant, size_bytes, channels, streams } = self;
        write!(f, "streams={streams} size={size_bytes} channels={channels} variant={variant}")
    }
}

/// The text that `--only` matches. Every field is followed by a space or the end.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server={} {} pace={}", self.contender, self.cell, self.pace)
    }
}

impl Run {
    /// The run at saturation that gives this one its rate.
    pub(crate) fn saturated(self) -> Run {
        Run { pace: Pace::Saturated, ..self }
    }
}

/// Every cell of the matrix, the plain ones first.
pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for size_bytes in SIZES {
        for channels in CHANNELS {
            for streams in STREAMS.into_iter().filter(|&streams| channels <= streams) {
                cells.push(Cell { variant: Variant::Plain, size_bytes, channels, streams });
            }
        }
    }
    for variant in [Variant::Http10, Variant::Slow] {
        for size_bytes in [64, 1024] {
            cells.push(Cell { variant, size_bytes, channels: 1, streams: STREAMS_OF_PLOTS });
        }
    }
    cells
}

/// The few cells of `--quick`, two of which differ in the streams and two in the size.
pub(crate) fn quick_cells() -> Vec<Cell> {
    let cell = |streams, size_bytes| Cell { variant: Variant::Plain, size_bytes, channels: 1, streams };
    vec![cell(1000, SIZE_OF_PLOTS), cell(STREAMS_OF_PLOTS, SIZE_OF_PLOTS), cell(STREAMS_OF_PLOTS, 1024)]
}

/// The wanted runs of these cells, and the runs that these need.
///
/// A repetition ends before the next begins, so that changes of the machine affect all cells. Within a
/// cell and a pace the servers take turns, and each repetition begins with another one.
pub(crate) fn runs(
    cells: &[Cell],
    contenders: &[Contender],
    repeats: u32,
    is_wanted: impl Fn(&Run) -> bool,
) -> Vec<Run> {
    let mut runs = Vec::new();
    for repeat in 1..=repeats {
        let mut turns = contenders.to_vec();
        if !turns.is_empty() {
            let first = (repeat - 1) as usize % turns.len();
            turns.rotate_left(first);
        }
        for &cell in cells {
            for pace in Pace::ALL {
                let all = turns.iter().map(|&contender| Run { cell, pace, contender, repeat });
                let is_needed = |run: &Run| {
                    is_wanted(run)
                        || (pace == Pace::Saturated && is_wanted(&Run { pace: Pace::Half, ..*run }))
                };
                runs.extend(all.filter(|run| run.contender.runs(cell) && is_needed(run)));
            }
        }
    }
    runs
}

/// Numbers of streams. With a limit of 20 000 open files one bench can hold just under 20 000.
pub(crate) const STREAMS: [u64; 3] = [1_000, 10_000, 15_000];

/// Bytes of an event's data.
pub(crate) const SIZES: [u64; 3] = [64, 1024, 16 * 1024];

const CHANNELS: [u64; 3] = [1, 1_000, 10_000];

/// The size in plots along the streams, and the streams in the plot along the sizes.
pub(crate) const SIZE_OF_PLOTS: u64 = 64;
pub(crate) const STREAMS_OF_PLOTS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_has_more_channels_than_streams_and_none_comes_twice() {
        let cells = cells();
        assert_eq!(cells.len(), 3 * (2 + 3 + 3) + 4);
        assert!(cells.iter().all(|cell| cell.channels <= cell.streams));
        let mut distinct = cells.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), cells.len());
        assert!(quick_cells().iter().all(|cell| cells.contains(cell)));
    }

    #[test]
    fn both_drivers_run_everything_and_peers_what_the_plots_show() {
        let runs = runs(&cells(), &Contender::ALL, 1, |_| true);
        let of = |contender| runs.iter().filter(|run| run.contender == contender).count();
        assert_eq!(Contender::ALL.map(of), [28 * 3, 28 * 3, 5 * 3, 5 * 3]);
    }

    #[test]
    fn servers_take_turns_within_a_pace_and_another_one_is_first_each_time() {
        let cell = quick_cells()[0];
        let runs = runs(&[cell], &Contender::ALL[..2], 2, |_| true);
        let order: Vec<_> = runs.iter().map(|run| (run.repeat, run.pace, run.contender)).collect();
        let [a, b] = [Contender::Epoll, Contender::Uring];
        let of =
            |repeat, first, second| Pace::ALL.map(|pace| [(repeat, pace, first), (repeat, pace, second)]);
        assert_eq!(order, [of(1, a, b), of(2, b, a)].concat().concat());
    }

    #[test]
    fn half_capacity_brings_its_saturation_with_it() {
        let cell = quick_cells()[0];
        let runs = runs(&[cell], &Contender::ALL[..1], 1, |run| run.pace == Pace::Half);
        assert_eq!(runs.iter().map(|run| run.pace).collect::<Vec<_>>(), [Pace::Saturated, Pace::Half]);
        assert_eq!(runs[1].saturated(), runs[0]);
    }

    #[test]
    fn a_name_has_every_parameter() {
        let run =
            Run { cell: quick_cells()[1], pace: Pace::Half, contender: Contender::BetterSse, repeat: 1 };
        assert_eq!(
            run.to_string(),
            "server=better-sse streams=10000 size=64 channels=1 variant=plain pace=half"
        );
    }
}
