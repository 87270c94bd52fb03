-- One row a model and question: the answers turn by turn. `pool` tells models of one name apart: it
-- is the dataset of an experiment, or (outside) or (imported).
with given as (
    select
        dataset as pool, experiment as model, benchmark, question_id, turn, answer, finish_reason,
        answer_tokens, checkpoint
    from {{ source('lake', 'model_answers') }}
    union all
    select
        '(outside)', outside_model, benchmark, question_id, turn, answer, finish_reason,
        answer_tokens, null
    from {{ source('lake', 'outside_answers') }}
    union all
    select '(imported)', model, benchmark, question_id, turn, answer, 'stop', null, null
    from {{ source('lake', 'imported_answers') }}
)

select
    pool, model, benchmark, question_id,
    list(turn order by turn) as turns,
    list(answer order by turn) as texts,
    list(length(answer) order by turn) as characters,
    sum(answer_tokens)::bigint as tokens,
    -- Reasons of turns without an answer; an empty answer that simply ended is one.
    list(turn order by turn) filter (
        where finish_reason not in (select unnest(unanswered) from {{ source('lake', 'judge_protocols') }})
    ) as answered,
    max(checkpoint) as checkpoint
from given
group by all
