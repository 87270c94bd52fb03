select * exclude (badge, reason)
from {{ ref('mt_bench_scores_all') }}
where badge = 'ok'
order by dataset, benchmark, model, judge, result_id
