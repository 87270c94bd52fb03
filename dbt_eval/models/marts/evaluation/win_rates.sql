select * exclude (badge, reason)
from {{ ref('win_rates_all') }}
where badge = 'ok'
order by dataset, matchup, benchmark, judge, result_id, is_default_rule desc, rule
