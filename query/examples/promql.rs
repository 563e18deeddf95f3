//! PromQL over an embedded store: append samples, ask, look at the plan.
//!
//! `cargo run -p chronolith-query --example promql`

use chronolith_engine::model::{Labels, TimestampNs};
use chronolith_engine::{RequestContext, Store, StoreOptions};
use chronolith_query::promql::result::{SampleValue, Value};
use chronolith_query::promql::{PromqlEngine, PromqlOptions, QueryOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory(StoreOptions::default())?;
    let ctx = RequestContext::new();

    // Ten minutes of a counter on two machines, a sample every 15 s.
    let mut append = store.begin(&ctx)?;
    for (instance, per_second) in [("a", 2.0), ("b", 5.0)] {
        let labels = Labels::from_pairs([("__name__", "requests_total"), ("instance", instance)])?;
        let series = append.define(None, &labels)?;
        for second in (0..=600).step_by(15) {
            let time = TimestampNs::from_millis(second * 1000).ok_or("time out of range")?;
            append.sample(series, time, second as f64 * per_second);
        }
    }
    append.commit()?;

    let engine = PromqlEngine::new(store, PromqlOptions::default());
    let query = engine.parse("sum by (instance) (rate(requests_total[5m]))")?;
    let options = QueryOptions {
        explain: true,
        ..QueryOptions::default()
    };
    let result = engine.instant_blocking(&ctx, &query, 600_000, &options)?;

    if let Value::Vector(vector) = &result.value {
        for element in vector {
            if let SampleValue::Float(value) = element.value {
                println!("{} {value}", element.labels);
            }
        }
    }
    println!("samples read: {}", result.stats.samples.read);
    println!("{}", result.plan.unwrap_or_default());
    Ok(())
}
