//! Bar charts as SVG without styles: the style sheet of the console has them.

use maud::{Markup, html};
use time::Date;

use super::{
    layout::{day_text, group_digits},
    texts::Language,
};

/// Height of the drawing in its own units. The width is one unit for each bar.
const HEIGHT: u64 = 1_000;

/// Draws the number of each day as a bar, with its scale.
pub(super) fn bars(t: Language, title: &str, numbers: &[(Date, u64)]) -> Markup {
    let total: u64 = numbers.iter().map(|(_, number)| number).sum();
    let most = numbers.iter().map(|(_, number)| *number).max().unwrap_or_default();
    let top = scale(most);
    let width = numbers.len();
    let days = numbers
        .first()
        .zip(numbers.last())
        .map(|((first, _), (last, _))| (day_text(*first), day_text(*last)));
    html! {
        figure.plot {
            figcaption {
                strong { (title) } ", " (t.in_total()) " " (group_digits(total)) ", "
                (t.at_most_a_day()) " " (group_digits(most))
            }
            div.chart {
                svg role="img" aria-label=(title) viewBox={ "0 0 " (width) " " (HEIGHT) } preserveAspectRatio="none" {
                    @for line in 0..=2 {
                        line x1="0" x2=(width) y1=(line * HEIGHT / 2) y2=(line * HEIGHT / 2) vector-effect="non-scaling-stroke" {}
                    }
                    @for (index, (day, number)) in numbers.iter().enumerate() {
                        @let height = height_of(*number, top);
                        @if *number > 0 {
                            rect x={ (index) ".1" } width="0.8" y=(HEIGHT - height) height=(height) {
                                title { (day_text(*day)) ": " (group_digits(*number)) }
                            }
                        }
                    }
                }
                p.scale aria-hidden="true" {
                    span { (group_digits(top)) }
                    span { @if top.is_multiple_of(2) { (group_digits(top / 2)) } }
                    span { "0" }
                }
                @if let Some((first, last)) = days {
                    p.axis { span { (first) } span { (last) } }
                }
            }
            details {
                summary { (t.table_of_days()) }
                table.figures {
                    thead { tr { th scope="col" { (t.day()) } th scope="col" { (title) } } }
                    tbody {
                        @for (day, number) in numbers.iter().rev() {
                            tr { th scope="row" { (day_text(*day)) } td { (group_digits(*number)) } }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the top of the scale: 1, 2, 4, 6 or 10, times a power of ten.
fn scale(most: u64) -> u64 {
    let mut step = 1;
    loop {
        if let Some(top) = [1, 2, 4, 6, 10].map(|digit| digit * step).into_iter().find(|top| most <= *top) {
            return top;
        }
        step = match step.checked_mul(10).filter(|step| *step <= u64::MAX / 10) {
            Some(step) => step,
            None => return u64::MAX,
        };
    }
}

/// Returns the height of a bar. A number above zero is at least one unit high.
fn height_of(number: u64, top: u64) -> u64 {
    let height = u128::from(number) * u128::from(HEIGHT) / u128::from(top);
    let height = u64::try_from(height).unwrap_or(HEIGHT);
    if number > 0 { height.max(HEIGHT / 100) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_ends_at_a_round_number() {
        for (most, top) in
            [(0, 1), (1, 1), (2, 2), (3, 4), (5, 6), (7, 10), (11, 20), (61, 100), (1_001, 2_000)]
        {
            assert_eq!(scale(most), top, "{most}");
        }
        assert!(scale(u64::MAX) == u64::MAX);
    }

    #[test]
    fn bars_are_proportional_and_visible() {
        assert_eq!([0, 1, 50, 100].map(|number| height_of(number, 100)), [0, 10, 500, 1_000]);
        assert_eq!(height_of(1, 1_000_000), 10);
        assert_eq!(height_of(u64::MAX, u64::MAX), HEIGHT);
    }
}
