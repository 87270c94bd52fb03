select
    result_id, scores.source, scores.dataset, scores.model, scores.benchmark, scores.judge,
    scores.protocol, scores.reading, scores.prompt_version, scores.sampling, cells.category,
    sum(cells.score_sum) filter (where cells.turn = 1)
    / nullif(sum(cells.scored) filter (where cells.turn = 1), 0) as turn_1,
    sum(cells.score_sum) filter (where cells.turn = 2)
    / nullif(sum(cells.scored) filter (where cells.turn = 2), 0) as turn_2,
    sum(cells.score_sum) / nullif(sum(cells.scored), 0) as score,
    sum(cells.judged)::bigint as judged,
    sum(cells.questions)::bigint as expected,
    sum(cells.unparsable)::bigint as unparsable,
    scores.filled_by_embedded,
    scores.note
from {{ ref('answer_scores') }} as scores
inner join {{ ref('single_cells') }} as cells using (result_id)
group by all
order by scores.dataset, scores.benchmark, scores.model, scores.judge, result_id, cells.category
