select * exclude (badge, reason)
from {{ ref('answer_scores_all') }}
where badge = 'ok'
order by dataset, benchmark, model, judge, result_id
