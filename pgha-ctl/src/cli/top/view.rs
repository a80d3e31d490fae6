//! How `pgha top` looks: lines of coloured text, made for a width. Pure.

use std::time::Instant;

use pgha_common::verdict::Action;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget as _};

use super::model::{Looks, Order, Server, Service, TREND, Traffic, Verdict};
use super::{Happened, Seen};
use crate::cli::{concerns, words};
use crate::controller::state::ServerState;
use crate::controller::status::{DirectorStatus, Status};

/// Verdicts that are shown.
const VERDICTS: usize = 8;
/// Events that are shown.
const EVENTS: usize = 8;
/// The narrowest screen that everything is made for.
const NARROWEST: usize = 40;

/// The lines of what was seen, for that many columns.
pub(super) fn lines(
    seen: &Seen,
    order: Order,
    width: u16,
    now: Instant,
    wall: u64,
) -> Vec<Line<'static>> {
    let width = usize::from(width).max(NARROWEST);
    let mut lines = vec![title(seen, width, wall)];
    if let Some(error) = &seen.error {
        let age = seen.looks.newest(now).map(|(_, age)| age);
        let old = age
            .map_or_else(String::new, |age| format!(" what is shown is {} old;", words::span(age)));
        lines.push(Line::from(format!(" NO ANSWER:{old} {error}")).red().bold());
    }
    let Some((status, _)) = seen.looks.newest(now) else { return lines };
    lines.push(primary(status, wall));
    for concern in concerns::of(status, wall) {
        lines.push(Line::from(format!(" {concern}")).yellow().bold());
    }
    lines.push(tables(&status.director));
    let services = seen.looks.services(order, wall);
    let names = services.iter().flat_map(|service| &service.servers);
    let longest = names.map(|server| server.name.chars().count()).max().unwrap_or_default();
    let columns = columns(width, longest);
    for service in &services {
        lines.push(Line::default());
        lines.extend(of_service(service, &columns, width));
    }
    lines.push(Line::default());
    lines.extend(verdicts(&seen.looks, status.received, width));
    if !seen.events.is_empty() {
        lines.push(Line::default());
        lines.push(heading("EVENTS", width));
        lines.extend(seen.events.iter().rev().take(EVENTS).map(event));
    }
    lines
}

/// Draws those lines from the `skipped`th on, and a line for the keys.
pub(super) fn draw(
    lines: &[Line<'static>],
    skipped: usize,
    order: Order,
    help: bool,
    buffer: &mut Buffer,
) {
    let area = buffer.area;
    let body = Rect { height: area.height.saturating_sub(1), ..area };
    let shown: Vec<_> = lines.iter().skip(skipped).take(body.height.into()).cloned().collect();
    Paragraph::new(shown).render(body, buffer);
    if help {
        let text: Vec<_> = HELP.lines().map(Line::from).collect();
        let height = u16::try_from(text.len()).unwrap_or(u16::MAX).min(body.height);
        let over = Rect { y: body.bottom() - height, height, ..body };
        ratatui::widgets::Clear.render(over, buffer);
        Paragraph::new(text).render(over, buffer);
    }
    let below = usize::from(body.height);
    let more = lines.len().saturating_sub(skipped + below);
    let more = if more > 0 { format!("  {more} lines below") } else { String::new() };
    let keys = Line::from(vec![
        " q".bold(),
        " quit  ".dim(),
        "s".bold(),
        format!(" order: {}  ", order.word()).dim(),
        "↑↓".bold(),
        " scroll  ".dim(),
        "?".bold(),
        " help".dim(),
        more.dim(),
    ]);
    let foot = Rect { y: body.bottom(), height: area.height - body.height, ..area };
    Paragraph::new(keys).render(foot, buffer);
}

const HELP: &str = "
 SHARE  of new connections: █ had in the last minute, ┃ given by its weight
 NEW/S  new connections a second    OPEN  open connections, about
 PKT/S  frames a second             TREND frames a second, the last looks
 LAG    WAL not replayed yet, age of what readers see
 CONNS  used of max_connections
 q, Ctrl-C  quit     s  next order     ↑↓ j k PgUp PgDn Home  scroll
";

fn title(seen: &Seen, width: usize, wall: u64) -> Line<'static> {
    let mut left = " pgha top ".to_owned();
    if let Some((status, _)) = seen.looks.newest(Instant::now()) {
        let DirectorStatus { interfaces, mode, .. } = &status.director;
        let names: Vec<_> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
        left += &format!(
            "· cluster {} · director on {}{}, {} ",
            status.cluster,
            names.join(", "),
            mode.as_ref().map_or_else(String::new, |mode| format!(" ({mode})")),
            crate::cli::table::role(&status.director),
        );
    }
    let moment = words::moment(wall);
    // The day can be spared.
    let time =
        if width < 100 { moment.split(' ').next_back().unwrap_or_default() } else { &moment };
    let right = format!(" {time} UTC ");
    let room = width.saturating_sub(right.chars().count());
    let left = cut(&left, room);
    Line::from(format!("{left:<room$}{right}")).reversed().bold()
}

fn primary(status: &Status, wall: u64) -> Line<'static> {
    let Some(known) = &status.primary else { return Line::from(" no primary is asked").dim() };
    let line = Line::from(format!(" {}", concerns::primary(known, wall)));
    if known.stale_ms.is_some() { line.yellow().bold() } else { line }
}

fn tables(director: &DirectorStatus) -> Line<'static> {
    let Some(seen) = director.in_use else { return Line::from(" flows: not counted yet").dim() };
    let of = |name: &str, used: u64, capacity: u32| {
        format!(
            "{name} {used} of {capacity} ({:.0} %)",
            100.0 * used as f64 / f64::from(capacity.max(1))
        )
    };
    Line::from(format!(
        " flows: {} · {} · IPv6 {} · {}",
        of("established", seen.flows, director.flows),
        of("pending", seen.pending_flows, director.pending_flows),
        of("established", seen.flows_ipv6, director.flows_ipv6),
        of("pending", seen.pending_flows_ipv6, director.pending_flows_ipv6),
    ))
    .dim()
}

/// A column of a service's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Server,
    State,
    Weight,
    Share,
    New,
    Open,
    Packets,
    Trend,
    Lag,
    Connections,
}

impl Column {
    /// In the order in which they stand.
    const ALL: [Self; 10] = [
        Self::Server,
        Self::State,
        Self::Weight,
        Self::Share,
        Self::New,
        Self::Open,
        Self::Packets,
        Self::Trend,
        Self::Lag,
        Self::Connections,
    ];
    /// Those that are shown where there is room, the first of them first.
    const SPARE: [Self; 5] =
        [Self::Lag, Self::Packets, Self::Weight, Self::Connections, Self::Trend];

    const fn title(self) -> &'static str {
        match self {
            Self::Server => "SERVER",
            Self::State => "STATE",
            Self::Weight => "WEIGHT",
            Self::Share => "SHARE",
            Self::New => "NEW/S",
            Self::Open => "OPEN",
            Self::Packets => "PKT/S",
            Self::Trend => "TREND",
            Self::Lag => "LAG",
            Self::Connections => "CONNS",
        }
    }

    /// Its least width.
    const fn width(self) -> usize {
        match self {
            Self::Server => 8,
            // `● checking`.
            Self::State | Self::Weight => 10,
            Self::Share => 5 + PERCENT,
            Self::New | Self::Open => 6,
            Self::Packets | Self::Connections => 7,
            Self::Trend => TREND,
            Self::Lag => 14,
        }
    }

    /// Numbers stand at the right of their column.
    const fn is_number(self) -> bool {
        matches!(self, Self::New | Self::Open | Self::Packets)
    }
}

/// The columns for a width, each with its own.
fn columns(width: usize, longest: usize) -> Vec<(Column, usize)> {
    let names = longest.clamp(Column::Server.width(), 16);
    let least = |column: Column| if column == Column::Server { names } else { column.width() };
    let needed =
        |shown: &[Column]| 1 + shown.iter().map(|column| least(*column) + 2).sum::<usize>();
    let mut shown = Column::ALL.to_vec();
    shown.retain(|column| !Column::SPARE.contains(column));
    for spare in Column::SPARE {
        shown.push(spare);
        if needed(&shown) > width {
            shown.pop();
        }
    }
    shown.sort_by_key(|column| Column::ALL.iter().position(|one| one == column));
    // The bar has what is left, or gives what is missing.
    let needed = needed(&shown);
    let share = Column::Share.width() + width.saturating_sub(needed).min(25);
    let share = share.saturating_sub(needed.saturating_sub(width)).max(PERCENT + 1);
    let width = |column| if column == Column::Share { share } else { least(column) };
    shown.into_iter().map(|column| (column, width(column))).collect()
}

fn of_service(service: &Service, columns: &[(Column, usize)], width: usize) -> Vec<Line<'static>> {
    let (serve, all) = service.serving;
    let left = format!(" {} {} ", service.name, service.vip);
    let Traffic { new, packets, open } = service.sum;
    let serves = format!("{serve} of {all} serve");
    let new = format!("{} new/s", rate(new));
    let how = format!("{} ", service.how);
    let used = left.chars().count() + how.chars().count();
    // What there is room for, and a bit of a rule.
    let right = [
        format!("{serves} · {new} · {open} open · {} pkt/s ", rate(packets)),
        format!("{serves} · {new} "),
    ]
    .into_iter()
    .find(|right| used + right.chars().count() + 2 <= width)
    .unwrap_or_else(|| format!("{serves} "));
    let used = used + right.chars().count();
    let rule = "─".repeat(width.saturating_sub(used + 1).max(1));
    let served = if serve == 0 { Style::new().red().bold() } else { Style::new() };
    let mut lines = vec![Line::from(vec![
        left.bold().cyan(),
        how.dim(),
        rule.dim(),
        Span::styled(format!(" {right}"), served),
    ])];
    if service.servers.is_empty() {
        lines.push(Line::from("  no real server").yellow());
        return lines;
    }
    let titles = columns.iter().map(|(column, width)| {
        Span::from(format!("{}  ", placed(column.title(), *width, column.is_number()))).dim()
    });
    lines.push(Line::from_iter(std::iter::once(Span::from(" ")).chain(titles)));
    let all = service.servers.iter().flat_map(|server| &server.trend);
    let most = all.fold(0.0_f64, |most, rate| most.max(*rate));
    for server in &service.servers {
        lines.push(row(server, columns, most));
        if server.state != ServerState::Up || !server.reasons.is_empty() {
            let reasons = cut(&server.reasons.join("; "), width.saturating_sub(5));
            lines
                .push(Line::from(vec!["   └ ".dim(), Span::styled(reasons, colour(server.state))]));
        }
    }
    lines
}

fn row(server: &Server, columns: &[(Column, usize)], most: f64) -> Line<'static> {
    let colour = colour(server.state);
    let mut spans = vec![Span::from(" ")];
    for (column, width) in columns {
        let text = |text: &str| placed(text, *width, column.is_number());
        match column {
            Column::Server => spans.push(text(&server.name).bold()),
            Column::State => {
                spans.push(Span::styled(text(&format!("● {}", server.state.word())), colour));
            }
            Column::Weight => spans.push(Span::from(text(&server.weight))),
            Column::Share => spans.extend(share(server, *width)),
            Column::New => spans.push(Span::from(text(&rate(server.traffic.new)))),
            Column::Open => spans.push(Span::from(text(&server.traffic.open.to_string()))),
            Column::Packets => spans.push(Span::from(text(&rate(server.traffic.packets)))),
            Column::Trend => spans.push(text(&trend(&server.trend, most)).blue()),
            Column::Lag => spans.push(Span::from(text(&server.lag))),
            Column::Connections => spans.push(Span::from(text(&server.connections))),
        }
        spans.push(Span::from("  "));
    }
    Line::from(spans)
}

/// Columns of `100 % of 100 %`, with a space before it.
const PERCENT: usize = 15;

/// What a server had of the new connections, as a bar, with a mark at what its weight gives it.
fn share(server: &Server, width: usize) -> Vec<Span<'static>> {
    let room = width.saturating_sub(PERCENT);
    // Both are 0 to 1, and a bar is short.
    let cells = |part: f64| (part * room as f64).round() as usize;
    let (had, wanted) = (cells(server.had.unwrap_or_default()), cells(server.wanted));
    let mark = wanted.clamp(1, room) - 1;
    let filled = colour(server.state);
    let mut spans: Vec<_> = (0..room)
        .map(|cell| match (cell == mark && wanted > 0, cell < had) {
            (true, true) => Span::styled("┃", filled.reversed()),
            (true, false) => "┃".bold(),
            (false, true) => Span::styled("█", filled),
            (false, false) => "·".dim(),
        })
        .collect();
    let had =
        server.had.map_or_else(|| words::NONE.to_owned(), |had| format!("{:.0}", 100.0 * had));
    let percent = format!(" {had:>3} % of {:>3.0} %", 100.0 * server.wanted);
    spans.push(Span::from(placed(&percent, PERCENT, false)));
    spans
}

/// Numbers as a line of blocks, the newest at the right.
fn trend(numbers: &[f64], most: f64) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let block = |number: &f64| {
        if *number <= 0.0 || most <= 0.0 {
            return ' ';
        }
        // From 0 to 7: `number` is at most `most`.
        BLOCKS[((number / most * 8.0).ceil() as usize).clamp(1, 8) - 1]
    };
    let blocks: String = numbers.iter().map(block).collect();
    format!("{blocks:>TREND$}")
}

fn verdicts(looks: &Looks, received: u64, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![heading(&format!("VERDICTS of {received} frames"), width)];
    let verdicts = looks.verdicts();
    let columns = (width / 48).clamp(1, 3);
    for line in verdicts[..verdicts.len().min(VERDICTS)].chunks(columns) {
        lines.push(Line::from_iter(line.iter().flat_map(verdict)));
    }
    lines
}

fn verdict(verdict: &Verdict) -> [Span<'static>; 3] {
    let style = match verdict.reason.action() {
        Action::Forward => Style::new().fg(Color::Green),
        Action::Answer => Style::new().fg(Color::Cyan),
        Action::Pass => Style::new(),
        Action::Drop => Style::new().fg(Color::Red),
    };
    [
        Span::styled(format!(" {:<24}", cut(verdict.reason.name(), 24)), style),
        Span::from(format!("{:>7}/s", rate(verdict.rate))),
        Span::from(format!("{:>12} ", verdict.total)).dim(),
    ]
}

fn event(Happened { at, severity, text }: &Happened) -> Line<'static> {
    let style = match severity.as_str() {
        "warning" | "warn" => Style::new().yellow(),
        "error" => Style::new().red(),
        _ => Style::new(),
    };
    Line::from(vec![
        Span::from(format!(" {}  ", words::moment(at / 1000))).dim(),
        Span::styled(text.clone(), style),
    ])
}

fn heading(text: &str, width: usize) -> Line<'static> {
    let rule = "─".repeat(width.saturating_sub(text.chars().count() + 3));
    Line::from(vec![format!(" {text} ").bold().cyan(), rule.dim()])
}

const fn colour(state: ServerState) -> Style {
    match state {
        ServerState::Up => Style::new().fg(Color::Green),
        ServerState::Drained | ServerState::Out => Style::new().fg(Color::Yellow),
        ServerState::Checking => Style::new().fg(Color::Cyan),
        ServerState::Down | ServerState::Dead => Style::new().fg(Color::Red),
        ServerState::Primary => Style::new().fg(Color::Magenta),
    }
}

/// A rate with three digits or so.
fn rate(rate: Option<f64>) -> String {
    match rate {
        None => words::NONE.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) if rate < 9_999.5 => format!("{rate:.0}"),
        Some(rate) if rate < 999_950.0 => format!("{:.1}k", rate / 1e3),
        Some(rate) => format!("{:.1}M", rate / 1e6),
    }
}

/// A text in a column of that width.
fn placed(text: &str, width: usize, right: bool) -> String {
    let text = cut(text, width);
    if right { format!("{text:>width$}") } else { format!("{text:<width$}") }
}

/// A text of at most that many characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}
