{{ config(materialized='view') }}
-- A view over tables of this file: it would repeat every answer for each verdict about it, and is
-- asked about few verdicts at a time. Without the file's name in it, so that the file may have any.
with pairs as (
    select
        result_id, source, dataset, matchup as subject, benchmark, question_id, category, turn,
        model_a, model_b, judge, protocol, reading, prompt_version, sampling, file,
        unnest(
            if(
                not one_outcome,
                [
                    struct_pack(
                        shown_first := 'a', status := status_a_first, winner := winner_a_first,
                        score_a := score_a_a_first, score_b := score_b_a_first,
                        reply_id := reply_a_first, row := row_a_first
                    ),
                    struct_pack(
                        shown_first := 'b', status := status_b_first, winner := winner_b_first,
                        score_a := score_a_b_first, score_b := score_b_b_first,
                        reply_id := reply_b_first, row := row_b_first
                    )
                ],
                [struct_pack(
                    shown_first := if(orders = 'both', 'merged', orders), status := status_a_first,
                    winner := case both_agree when 'win' then 'a' when 'lose' then 'b' else both_agree end,
                    score_a := null::double, score_b := null::double, reply_id := null::varchar,
                    row := row_a_first
                )]
            ),
            recursive := true
        )
    from {{ ref('pair_outcomes').include(database=false) }}
),

verdicts as (
    select 'pair' as kind, * from pairs
    union all by name
    select
        'single' as kind, result_id, source, dataset, model as subject, benchmark, question_id,
        category, turn, model as model_a, judge, protocol, reading, prompt_version, sampling,
        status, score as score_a, reply_id, file, row
    from {{ ref('single_outcomes').include(database=false) }}
),

trained as (
    select * from {{ ref('trained_models').include(database=false) }}
),

answers as (
    select * from {{ ref('answers').include(database=false) }}
)

select
    verdict.result_id, verdict.kind, verdict.source, verdict.dataset, verdict.subject,
    verdict.benchmark, verdict.question_id, verdict.category, verdict.turn, verdict.judge,
    verdict.protocol, verdict.reading, verdict.prompt_version, verdict.sampling,
    verdict.shown_first, verdict.status, verdict.winner, verdict.score_a, verdict.score_b,
    verdict.reply_id,
    reply.model as reply_model,
    reply.prompt_tokens, reply.completion_tokens, reply.cost_usd, verdict.file, verdict.row,
    {%- for side, answer, trained in [('a', 'answer_a', 'trained_a'), ('b', 'answer_b', 'trained_b')] %}
    verdict.model_{{ side }},
    if(verdict.turn = 0, {{ answer }}.texts, {{ answer }}.texts[1:verdict.turn]) as answer_{{ side }},
    {{ answer }}.checkpoint as checkpoint_{{ side }},
    {{ trained }}.base_model as base_model_{{ side }},
    {{ trained }}.recipe as recipe_{{ side }},
    {{ trained }}.selector as selector_{{ side }},
    {{ trained }}.subset_hash as subset_hash_{{ side }},
    {{ trained }}.samples as samples_{{ side }},
    {{ trained }}.frequent_tags as frequent_tags_{{ side }},
    {{ trained }}.chosen_with as chosen_with_{{ side }},
    {%- endfor %}
    {{ filled_by_embedded(['verdict.judge']) }} as filled_by_embedded,
    {{ embedded_note(['verdict.judge']) }} as note
from verdicts as verdict
left join {{ ref('judge_replies').include(database=false) }} as reply
    on hash(verdict.reply_id) = reply.reply_key and verdict.reply_id is not null
{%- for side in ['a', 'b'] %}
left join answers as answer_{{ side }}
    on
        verdict.model_{{ side }} = answer_{{ side }}.model
        and verdict.benchmark = answer_{{ side }}.benchmark
        and verdict.question_id = answer_{{ side }}.question_id
        and (
            verdict.dataset = answer_{{ side }}.pool
            or (verdict.source = 'judged' and answer_{{ side }}.pool = '(outside)')
        )
left join trained as trained_{{ side }}
    on
        verdict.dataset = trained_{{ side }}.dataset
        and verdict.model_{{ side }} = trained_{{ side }}.model
{%- endfor %}
where verdict.status <> 'missing'
