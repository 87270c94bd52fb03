with outcomes as (
    select *, 'win_or_tie' as rule, win_or_tie as outcome from {{ ref('pair_outcomes') }}
    union all by name
    select *, 'both_agree' as rule, both_agree as outcome from {{ ref('pair_outcomes') }}
    union all by name
    select *, 'sum_of_scores' as rule, sum_of_scores as outcome from {{ ref('pair_outcomes') }}
),

counted as (
    select
        dataset,
        matchup,
        benchmark,
        model_a,
        model_b,
        judge,
        reading,
        prompt_version,
        rule,
        count(*) filter (where outcome = 'win') as win,
        count(*) filter (where outcome = 'tie') as tie,
        count(*) filter (where outcome = 'lose') as lose,
        count(*) filter (where status <> 'missing' and outcome is null) as unparsable,
        count(*) filter (where status <> 'missing') as judged,
        count(*) as expected,
        count(*) filter (where not orders_agree) as orders_disagree
    from outcomes
    group by all
)

select
    dataset,
    matchup,
    benchmark,
    model_a,
    model_b,
    judge,
    reading,
    prompt_version,
    rule,
    rule = if(reading = 'logprobs', 'sum_of_scores', 'win_or_tie') as is_default_rule,
    win,
    tie,
    lose,
    unparsable,
    judged,
    expected,
    {{ percent('win', 'win + tie + lose') }} as win_pct,
    {{ percent('tie', 'win + tie + lose') }} as tie_pct,
    {{ percent('lose', 'win + tie + lose') }} as lose_pct,
    {{ percent('win + 0.5 * tie', 'win + tie + lose') }} as adjusted_win_pct,
    {{ percent('orders_disagree', 'win + tie + lose') }} as orders_disagree_pct,
    judged = expected as complete,
    {{ filled_by_embedded(['judge']) }} as filled_by_embedded,
    {{ embedded_note(['judge']) }} as note
from counted
order by dataset, matchup, benchmark, judge, is_default_rule desc, rule
