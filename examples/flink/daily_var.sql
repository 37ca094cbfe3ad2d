-- The lowest, highest and number of 95 % VaR of each portfolio by day, from the table `risk_measure`
-- of `python -m analytics.engines.flink_tables RiskMeasure`.

SET 'execution.target' = 'local';
SET 'table.dml-sync' = 'true';

CREATE TABLE `daily_var` (
  `portfolio_id` STRING,
  `day` DATE,
  `low` DOUBLE,
  `high` DOUBLE,
  `measures` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = '/tmp/daily_var',
  'format' = 'json'
);

INSERT INTO `daily_var`
SELECT `portfolio_id`, CAST(`window_start` AS DATE), MIN(`var_95`), MAX(`var_95`), COUNT(`var_95`)
FROM TABLE(TUMBLE(TABLE `risk_measure`, DESCRIPTOR(`as_of`), INTERVAL '1' DAY))
WHERE `portfolio_id` IS NOT NULL
GROUP BY `portfolio_id`, `window_start`, `window_end`;
