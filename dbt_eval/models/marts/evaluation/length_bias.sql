select
    rates.result_id, rates.source, rates.dataset, rates.matchup, rates.model_a, rates.model_b,
    rates.benchmark, rates.judge, lengths.questions, lengths.decided, lengths.longer_wins,
    {{ percent('lengths.longer_wins', 'lengths.decided') }} as longer_win_pct,
    rates.adjusted_win_pct as win_pct,
    lengths.lc_win_pct, lengths.lc_method, lengths.lc_questions, rates.filled_by_embedded,
    rates.note
from {{ ref('win_rates') }} as rates
inner join {{ ref('length_controlled') }} as lengths using (result_id)
where rates.is_default_rule
order by rates.dataset, rates.matchup, rates.benchmark, rates.judge, rates.result_id
