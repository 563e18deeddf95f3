//! Tests of whole forecasts: what must hold whatever the methods are.

use proptest::prelude::*;

use super::*;

/// Uniform noise in [-1, 1) that depends on the seed and the index alone.
fn noise(seed: u64, index: usize) -> f64 {
    let mut x = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(index as u64 + 1);
    for _ in 0..3 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    (x >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Nearly normal noise of standard deviation 1.
fn normal(seed: u64, index: usize) -> f64 {
    (0..3).map(|part| noise(seed, 3 * index + part)).sum()
}

/// Two weeks and more of hours: a day, a weekend, noise.
fn hours(seed: u64, count: usize) -> Vec<f64> {
    let day = |i: usize| 30.0 * (i as f64 / 24.0 * std::f64::consts::TAU).sin();
    let weekend = |i: usize| if i % 168 < 48 { -20.0 } else { 0.0 };
    (0..count)
        .map(|i| 100.0 + day(i) + weekend(i) + 3.0 * normal(seed, i))
        .collect()
}

fn hourly(horizon: usize) -> ForecastOptions {
    ForecastOptions::new(horizon).with_step_seconds(3_600.0)
}

fn is_sound(found: &Forecast, horizon: usize) -> Result<(), TestCaseError> {
    for values in [&found.point, &found.lower, &found.upper] {
        prop_assert_eq!(values.len(), horizon);
        prop_assert!(values.iter().all(|value| !value.is_infinite()));
    }
    prop_assert!(found.point.iter().all(|value| value.is_finite()));
    for at in 0..horizon {
        let (lower, upper) = (found.lower[at], found.upper[at]);
        prop_assert_eq!(lower.is_nan(), upper.is_nan());
        prop_assert!(lower.is_nan() || lower <= found.point[at] && found.point[at] <= upper);
    }
    Ok(())
}

/// Values as they come from the wild.
fn wild_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -1e3..1e3_f64,
        2 => Just(0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::MAX),
        1 => Just(-f64::MAX),
        1 => Just(f64::MIN_POSITIVE / 8.0),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_input_gives_finite_output(
        values in proptest::collection::vec(wild_value(), 0..120),
        horizon in 1..40_usize,
        season in 0..40_usize,
        start in 0..150_usize,
    ) {
        let mut options = ForecastOptions::new(horizon);
        options.seasons = SeasonChoice::Suggested(vec![season, 7]);
        options.events = vec![PlannedEvent { name: "e".into(), starts: vec![start, 3], points: 4 }];
        match forecast(&values, &options) {
            Ok(found) => is_sound(&found, horizon)?,
            Err(error) => {
                prop_assert_eq!(error, ForecastError::NoValues { points: values.len() });
                prop_assert!(values.iter().all(|value| !value.is_finite()));
            }
        }
    }

    #[test]
    fn tame_input_of_any_length_gives_finite_output(
        seed in 0..1_000_u64,
        count in 1..300_usize,
        horizon in 1..60_usize,
    ) {
        let found = forecast(&hours(seed, count), &hourly(horizon)).unwrap();
        is_sound(&found, horizon)?;
    }

    #[test]
    fn scaling_the_input_scales_the_output(seed in 0..100_u64, power in -300..300_i32) {
        let values = hours(seed, 200);
        let scale = 2.0_f64.powi(power);
        let scaled: Vec<f64> = values.iter().map(|value| value * scale).collect();
        let (plain, scaled) =
            (forecast(&values, &hourly(24)).unwrap(), forecast(&scaled, &hourly(24)).unwrap());
        for (plain, scaled) in plain.point.iter().zip(&scaled.point) {
            prop_assert_eq!(plain * scale, *scaled);
        }
    }

    #[test]
    fn shifting_data_with_negative_values_shifts_the_output(seed in 0..100_u64, shift in -400.0..-200.0_f64) {
        let base: Vec<f64> = hours(seed, 200).iter().map(|value| value - 400.0).collect();
        let moved: Vec<f64> = base.iter().map(|value| value + shift).collect();
        let (base, moved) =
            (forecast(&base, &hourly(24)).unwrap(), forecast(&moved, &hourly(24)).unwrap());
        for (base, moved) in base.point.iter().zip(&moved.point) {
            let (base, moved): (f64, f64) = (*base, *moved);
            prop_assert!((base + shift - moved).abs() < 1.0, "{base} {shift} {moved}");
        }
    }
}

#[test]
fn the_band_holds_what_it_claims() {
    for level in [0.8, 0.95] {
        let mut inside = 0.0;
        let mut count = 0.0;
        for seed in 0..16 {
            let values = hours(seed, 500);
            let mut options = hourly(24);
            options.level = level;
            let found = forecast(&values[..476], &options).unwrap();
            for (at, value) in values[476..].iter().enumerate() {
                count += 1.0;
                inside += f64::from(u8::from(
                    found.lower[at] <= *value && *value <= found.upper[at],
                ));
            }
        }
        let coverage: f64 = inside / count;
        assert!(
            (level - 0.03..level + 0.12).contains(&coverage),
            "{level}: {coverage}"
        );
    }
}

#[test]
fn day_and_week_beat_the_yardstick() {
    let values = hours(3, 960);
    let found = forecast(&values[..912], &hourly(48)).unwrap();
    let periods: Vec<usize> = found.seasons.iter().map(|season| season.period).collect();
    assert_eq!(periods, [24, 168]);
    let backtest = found.backtest.unwrap();
    assert!(backtest.skill() > 0.3, "{}", backtest.skill());
    let weights: f64 = backtest.methods.iter().map(|method| method.weight).sum();
    assert!((weights - 1.0).abs() < 1e-9);
    let error: f64 = values[912..]
        .iter()
        .zip(&found.point)
        .map(|(v, p)| (v - p).abs())
        .sum::<f64>()
        / 48.0;
    assert!(error < 5.0, "{error}");
}

#[test]
fn constants_stay_and_are_certain() {
    let found = forecast(&[7.5; 50], &hourly(3)).unwrap();
    assert_eq!(
        (found.point, found.lower, found.upper),
        (vec![7.5; 3], vec![7.5; 3], vec![7.5; 3])
    );
}

#[test]
fn too_short_histories_claim_no_band() {
    for values in [&[4.0][..], &[4.0, 5.0], &[4.0, 5.0, 4.0]] {
        let found = forecast(values, &hourly(2)).unwrap();
        assert_eq!(found.point, [*values.last().unwrap(); 2]);
        assert!(
            found
                .lower
                .iter()
                .chain(&found.upper)
                .all(|bound| bound.is_nan())
        );
    }
}

#[test]
fn options_out_of_range_are_refused() {
    for (horizon, level) in [
        (0, 0.9),
        (HORIZON_MAX + 1, 0.9),
        (1, 0.0),
        (1, 1.0),
        (1, f64::NAN),
    ] {
        let mut options = ForecastOptions::new(horizon);
        options.level = level;
        assert!(matches!(
            forecast(&[1.0], &options),
            Err(ForecastError::Option { .. })
        ));
    }
    assert_eq!(
        forecast(&[], &hourly(1)),
        Err(ForecastError::NoValues { points: 0 })
    );
}

#[test]
fn gaps_at_the_end_lengthen_the_horizon() {
    let values = hours(5, 700);
    let mut silent = values[..690].to_vec();
    silent.extend([f64::NAN; 10]);
    let late = forecast(&silent, &hourly(24)).unwrap();
    let whole = forecast(&values[..690], &hourly(34)).unwrap();
    assert_eq!(late.point, whole.point[10..]);
}

#[test]
fn what_cannot_be_negative_is_not() {
    let values: Vec<f64> = (0..300).map(|i| (5.0 * noise(1, i)).max(0.0)).collect();
    let found = forecast(&values, &hourly(24)).unwrap();
    assert!(found.lower.iter().all(|&bound| bound >= 0.0));
    let mut options = hourly(24);
    options.ceiling = Some(1.0);
    assert!(
        forecast(&values, &options)
            .unwrap()
            .upper
            .iter()
            .all(|&bound| bound <= 1.0)
    );
}

#[test]
fn a_planned_event_comes_again() {
    let mut values = hours(9, 700);
    for start in [100, 300, 500] {
        values[start..start + 6]
            .iter_mut()
            .for_each(|value| *value *= 3.0);
    }
    let mut options = hourly(24);
    let quiet = forecast(&values, &options).unwrap();
    let starts = vec![100, 300, 500, 710];
    options.events = vec![PlannedEvent {
        name: "sale".into(),
        starts,
        points: 6,
    }];
    let loud = forecast(&values, &options).unwrap();
    for at in 10..16 {
        let ratio = loud.point[at] / quiet.point[at];
        assert!((1.8..3.5).contains(&ratio), "{at}: {ratio}");
    }
    assert!((loud.point[3] / quiet.point[3] - 1.0).abs() < 0.3);
}
