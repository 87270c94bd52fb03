with totals as (
    select
        result_id,
        {%- for rule in merging_rules() %}
        sum({{ rule }}_win)::bigint as {{ rule }}_win,
        sum({{ rule }}_tie)::bigint as {{ rule }}_tie,
        sum({{ rule }}_lose)::bigint as {{ rule }}_lose,
        {%- endfor %}
        sum(orders_known)::bigint as orders_known,
        sum(orders_disagree)::bigint as orders_disagree,
        sum(judged)::bigint as judged,
        sum(questions)::bigint as expected,
        sum(stopped)::bigint as stopped
    from {{ ref('pair_cells') }}
    group by result_id
),

counted as (
    {%- for rule in merging_rules() %}
    select
        result_id, '{{ rule }}' as rule, {{ loop.index }} as place,
        {{ rule }}_win as win, {{ rule }}_tie as tie, {{ rule }}_lose as lose,
        orders_known, orders_disagree, judged, expected, stopped
    from totals
    {#- Verdicts without scores have no sum. #}
    {%- if rule == 'sum_of_scores' %}
    where sum_of_scores_win + sum_of_scores_tie + sum_of_scores_lose > 0 or judged = 0
    {%- endif %}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

trained as (
    select * from {{ ref('trained_models') }}
)

select
    counted.result_id,
    results.source,
    results.dataset,
    results.subject as matchup,
    results.benchmark, results.model_a, results.model_b, results.judge, results.protocol,
    results.reading, results.prompt_version, results.sampling, counted.rule,
    counted.rule = results.default_rule as is_default_rule,
    counted.win,
    counted.tie,
    counted.lose,
    counted.judged - counted.win - counted.tie - counted.lose as unparsable,
    counted.judged,
    counted.expected,
    counted.stopped,
    {{ percent('counted.win', 'counted.win + counted.tie + counted.lose') }} as win_pct,
    {{ percent('counted.tie', 'counted.win + counted.tie + counted.lose') }} as tie_pct,
    {{ percent('counted.lose', 'counted.win + counted.tie + counted.lose') }} as lose_pct,
    {{ percent(
        'counted.win + 0.5 * counted.tie', 'counted.win + counted.tie + counted.lose'
    ) }} as adjusted_win_pct,
    intervals.ci_low,
    intervals.ci_high,
    {{ percent('counted.orders_disagree', 'counted.orders_known') }} as orders_disagree_pct,
    declared.parity,
    one.epochs as epochs_a,
    other.epochs as epochs_b,
    one.steps as steps_a,
    other.steps as steps_b,
    one.tokens as tokens_a,
    other.tokens as tokens_b,
    one.template_hash as template_a,
    other.template_hash as template_b,
    counted.judged + counted.stopped = counted.expected as complete,
    badges.badge,
    badges.reason,
    badges.unchecked,
    {{ filled_by_embedded(['results.judge']) }} as filled_by_embedded,
    {{ embedded_note(['results.judge']) }} as note
from counted
inner join {{ ref('results') }} as results using (result_id)
inner join {{ ref('result_badges') }} as badges using (result_id)
left join {{ ref('intervals') }} as intervals using (result_id, rule)
left join {{ source('lake', 'declared_matchups') }} as declared
    on results.source = 'judged' and results.subject = declared.matchup
left join trained as one on results.dataset = one.dataset and results.model_a = one.model
left join trained as other on results.dataset = other.dataset and results.model_b = other.model
order by
    results.dataset, results.subject, results.benchmark, results.judge, counted.result_id,
    is_default_rule desc, counted.place
