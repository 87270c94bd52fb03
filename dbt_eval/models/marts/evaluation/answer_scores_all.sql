-- A mean over part of the turns is not complete: first turns score higher than second.
with counted as (
    select
        result_id,
        sum(score_sum) filter (where turn = 1) / nullif(sum(scored) filter (where turn = 1), 0)
            as turn_1,
        sum(score_sum) filter (where turn = 2) / nullif(sum(scored) filter (where turn = 2), 0)
            as turn_2,
        sum(score_sum) / nullif(sum(scored), 0) as score,
        sum(judged)::bigint as judged,
        sum(questions)::bigint as expected,
        sum(unparsable)::bigint as unparsable,
        sum(stopped)::bigint as stopped
    from {{ ref('single_cells') }}
    group by result_id
)

select
    counted.result_id,
    results.source,
    results.dataset,
    results.subject as model,
    results.benchmark, results.judge, results.protocol, results.reading, results.prompt_version,
    results.sampling, counted.turn_1, counted.turn_2, counted.score, intervals.ci_low,
    intervals.ci_high, counted.judged, counted.expected, counted.unparsable,
    counted.judged + counted.stopped = counted.expected as complete,
    badges.badge,
    badges.reason,
    badges.unchecked,
    {{ filled_by_embedded(['results.judge']) }} as filled_by_embedded,
    {{ embedded_note(['results.judge']) }} as note
from counted
inner join {{ ref('results') }} as results using (result_id)
inner join {{ ref('result_badges') }} as badges using (result_id)
left join {{ ref('intervals') }} as intervals
    on counted.result_id = intervals.result_id and intervals.rule = 'score'
order by results.dataset, results.benchmark, model, results.judge, counted.result_id
