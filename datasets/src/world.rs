//! The fixed cast of the story: regions and their stores, pipelines and their stages, models,
//! machines. All numbers here are averages; `runs` and `metrics` add season, noise and incidents.

use crate::season::{HOUR_MS, MINUTE_MS};

/// A sales region with its own clock, stores and runner machine.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) name: &'static str,
    pub(crate) utc_offset_hours: i64,
    pub(crate) runner: &'static str,
    pub(crate) stores: &'static [Store],
}

/// A shop and its size relative to the average one.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) name: &'static str,
    pub(crate) size: f64,
}

pub(crate) static REGIONS: [Region; 3] = [
    Region {
        name: "eu",
        utc_offset_hours: 1,
        runner: "runner-eu-1",
        stores: &[
            Store {
                name: "berlin",
                size: 1.2,
            },
            Store {
                name: "paris",
                size: 1.0,
            },
        ],
    },
    Region {
        name: "us",
        utc_offset_hours: -6,
        runner: "runner-us-1",
        stores: &[
            Store {
                name: "austin",
                size: 0.9,
            },
            Store {
                name: "seattle",
                size: 1.1,
            },
        ],
    },
    Region {
        name: "apac",
        utc_offset_hours: 9,
        runner: "runner-apac-1",
        stores: &[
            Store {
                name: "tokyo",
                size: 1.4,
            },
            Store {
                name: "sydney",
                size: 0.7,
            },
        ],
    },
];

/// Workers of each region's runner: runs beyond them wait in the queue.
pub(crate) const WORKERS_PER_RUNNER: usize = 2;

/// The machine of the warehouse that every load stage writes to.
pub(crate) const WAREHOUSE: &str = "warehouse-1";

/// One stage of a pipeline.
#[derive(Debug)]
pub(crate) struct StageSpec {
    pub(crate) name: &'static str,
    /// Duration of an empty run, in milliseconds.
    pub(crate) duration_base_ms: f64,
    /// Added per record, in milliseconds.
    pub(crate) per_record_ms: f64,
    /// What it reports when it breaks by itself.
    pub(crate) error_code: &'static str,
    pub(crate) error_message: &'static str,
}

/// What a pipeline asks of language models, once per run.
#[derive(Debug)]
pub(crate) struct ModelUse {
    pub(crate) model: &'static str,
    pub(crate) stage: &'static str,
    pub(crate) calls_per_run: f64,
    pub(crate) input_tokens: f64,
    pub(crate) output_tokens: f64,
    pub(crate) latency_ms: f64,
}

/// A table that a pipeline writes, and its rows per extracted record.
#[derive(Debug)]
pub(crate) struct TableSpec {
    pub(crate) name: &'static str,
    pub(crate) rows_per_record: f64,
}

/// A pipeline: what it does, how often, and how much.
#[derive(Debug)]
pub(crate) struct PipelineSpec {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// One schedule per store, else one per region.
    pub(crate) per_store: bool,
    pub(crate) every_ms: i64,
    /// Records that an average place produces per minute.
    pub(crate) records_per_minute: f64,
    pub(crate) stages: &'static [StageSpec],
    pub(crate) tables: &'static [TableSpec],
    pub(crate) models: &'static [ModelUse],
}

macro_rules! stage {
    ($name:literal, $base:literal, $per_record:literal, $code:literal, $message:literal) => {
        StageSpec {
            name: $name,
            duration_base_ms: $base,
            per_record_ms: $per_record,
            error_code: $code,
            error_message: $message,
        }
    };
}

pub(crate) static PIPELINES: [PipelineSpec; 6] = [
    PipelineSpec {
        name: "orders_etl",
        version: "4.2.0",
        per_store: true,
        every_ms: 5 * MINUTE_MS,
        records_per_minute: 140.0,
        stages: &[
            stage!(
                "extract",
                4_000.0,
                6.0,
                "SOURCE_TIMEOUT",
                "point of sale did not answer"
            ),
            stage!(
                "transform",
                6_000.0,
                9.0,
                "BAD_RECORD",
                "order without a currency"
            ),
            stage!(
                "load",
                5_000.0,
                8.0,
                "WAREHOUSE_TIMEOUT",
                "copy into orders timed out"
            ),
        ],
        tables: &[
            TableSpec {
                name: "orders",
                rows_per_record: 1.0,
            },
            TableSpec {
                name: "order_items",
                rows_per_record: 3.2,
            },
        ],
        models: &[],
    },
    PipelineSpec {
        name: "inventory_sync",
        version: "2.9.1",
        per_store: true,
        every_ms: 5 * MINUTE_MS,
        records_per_minute: 60.0,
        stages: &[
            stage!(
                "extract",
                3_000.0,
                12.0,
                "SOURCE_TIMEOUT",
                "stock feed did not answer"
            ),
            stage!(
                "transform",
                3_000.0,
                5.0,
                "BAD_RECORD",
                "negative stock without a reason"
            ),
            stage!(
                "load",
                4_000.0,
                6.0,
                "WAREHOUSE_TIMEOUT",
                "merge into stock_levels timed out"
            ),
        ],
        tables: &[TableSpec {
            name: "stock_levels",
            rows_per_record: 1.0,
        }],
        models: &[],
    },
    PipelineSpec {
        name: "customer_360",
        version: "1.14.0",
        per_store: false,
        every_ms: 15 * MINUTE_MS,
        records_per_minute: 90.0,
        stages: &[
            stage!(
                "extract",
                9_000.0,
                8.0,
                "SOURCE_TIMEOUT",
                "customer database did not answer"
            ),
            stage!(
                "transform",
                30_000.0,
                25.0,
                "JOIN_FAILED",
                "two golden records for one key"
            ),
            stage!(
                "load",
                9_000.0,
                9.0,
                "WAREHOUSE_TIMEOUT",
                "merge into customers timed out"
            ),
        ],
        tables: &[TableSpec {
            name: "customers",
            rows_per_record: 0.8,
        }],
        models: &[],
    },
    PipelineSpec {
        name: "product_enrichment",
        version: "0.8.3",
        per_store: false,
        every_ms: 10 * MINUTE_MS,
        records_per_minute: 6.0,
        stages: &[
            stage!(
                "extract",
                3_000.0,
                40.0,
                "SOURCE_TIMEOUT",
                "catalogue did not answer"
            ),
            stage!(
                "enrich",
                2_000.0,
                0.0,
                "MODEL_REFUSED",
                "model answered with a refusal"
            ),
            stage!(
                "transform",
                5_000.0,
                60.0,
                "BAD_RECORD",
                "model answer is not valid JSON"
            ),
            stage!(
                "load",
                4_000.0,
                20.0,
                "WAREHOUSE_TIMEOUT",
                "copy into products timed out"
            ),
        ],
        tables: &[TableSpec {
            name: "products",
            rows_per_record: 1.0,
        }],
        models: &[
            ModelUse {
                model: "atlas-large",
                stage: "enrich",
                calls_per_run: 15.0,
                input_tokens: 3_000.0,
                output_tokens: 800.0,
                latency_ms: 2_600.0,
            },
            ModelUse {
                model: "embed-2",
                stage: "enrich",
                calls_per_run: 10.0,
                input_tokens: 900.0,
                output_tokens: 0.0,
                latency_ms: 120.0,
            },
        ],
    },
    PipelineSpec {
        name: "support_triage",
        version: "3.0.5",
        per_store: false,
        every_ms: 5 * MINUTE_MS,
        records_per_minute: 2.0,
        stages: &[
            stage!(
                "extract",
                2_000.0,
                90.0,
                "SOURCE_TIMEOUT",
                "ticket system did not answer"
            ),
            stage!(
                "enrich",
                1_500.0,
                0.0,
                "MODEL_REFUSED",
                "model answered with a refusal"
            ),
            stage!(
                "load",
                3_000.0,
                60.0,
                "WAREHOUSE_TIMEOUT",
                "copy into tickets timed out"
            ),
        ],
        tables: &[TableSpec {
            name: "tickets",
            rows_per_record: 1.0,
        }],
        models: &[ModelUse {
            model: "atlas-small",
            stage: "enrich",
            calls_per_run: 10.0,
            input_tokens: 1_400.0,
            output_tokens: 220.0,
            latency_ms: 900.0,
        }],
    },
    PipelineSpec {
        name: "sales_report",
        version: "6.1.2",
        per_store: false,
        every_ms: HOUR_MS,
        records_per_minute: 40.0,
        stages: &[
            stage!(
                "extract",
                20_000.0,
                10.0,
                "SOURCE_TIMEOUT",
                "warehouse query timed out"
            ),
            stage!(
                "transform",
                60_000.0,
                30.0,
                "BAD_RECORD",
                "sum of lines differs from total"
            ),
            stage!(
                "load",
                15_000.0,
                4.0,
                "WAREHOUSE_TIMEOUT",
                "copy into daily_sales timed out"
            ),
        ],
        tables: &[TableSpec {
            name: "daily_sales",
            rows_per_record: 0.1,
        }],
        models: &[],
    },
];

/// Prices of a model in dollars per million tokens.
pub(crate) struct ModelPrice {
    pub(crate) model: &'static str,
    pub(crate) input_dollars: f64,
    pub(crate) output_dollars: f64,
}

pub(crate) static MODEL_PRICES: [ModelPrice; 3] = [
    ModelPrice {
        model: "atlas-large",
        input_dollars: 5.0,
        output_dollars: 15.0,
    },
    ModelPrice {
        model: "atlas-small",
        input_dollars: 0.4,
        output_dollars: 1.6,
    },
    ModelPrice {
        model: "embed-2",
        input_dollars: 0.1,
        output_dollars: 0.0,
    },
];

/// Dollars for one request.
pub(crate) fn model_cost_dollars(model: &str, input_tokens: u64, output_tokens: u64) -> f64 {
    MODEL_PRICES
        .iter()
        .find(|price| price.model == model)
        .map_or(0.0, |price| {
            (input_tokens as f64 * price.input_dollars
                + output_tokens as f64 * price.output_dollars)
                / 1e6
        })
}

/// The pipeline of this name.
pub(crate) fn pipeline(name: &str) -> &'static PipelineSpec {
    PIPELINES
        .iter()
        .find(|pipeline| pipeline.name == name)
        .unwrap_or_else(|| panic!("bug: the story has no pipeline {name}"))
}

/// The region of this name.
pub(crate) fn region(name: &str) -> &'static Region {
    REGIONS
        .iter()
        .find(|region| region.name == name)
        .unwrap_or_else(|| panic!("bug: the story has no region {name}"))
}
