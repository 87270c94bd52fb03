{{ config(
    pre_hook="{{ read_verdicts('pair') }}",
    post_hook="drop table if exists temp.pair_verdicts",
) }}
-- depends_on: {{ source('lake', 'pairwise_verdicts') }}
-- depends_on: {{ source('lake', 'imported_verdicts') }}
-- Every question that the result's benchmark has stands here, judged or not: what is missing is
-- seen, not averaged over. Verdicts of another judge, prompt or sampling are another result.
with results as (
    select
        result_key,
        any_value(source) as source,
        any_value(dataset) as dataset,
        any_value(matchup) as matchup,
        any_value(benchmark) as benchmark,
        any_value(model_a) as model_a,
        any_value(model_b) as model_b,
        any_value(judge) as judge,
        any_value(protocol) as protocol,
        any_value(reading) as reading,
        any_value(prompt_version) as prompt_version,
        any_value(sampling) as sampling,
        -- A file may have outcomes of both orders beside orders; what it has of orders counts.
        case
            when bool_or(shown_first in ('a', 'b')) then 'both'
            when bool_or(shown_first = 'merged') then 'merged'
            else 'unknown'
        end as orders,
        list(distinct turn) as turns
    from pair_verdicts
    group by result_key
),

named as (
    select
        results.*,
        {{ result_id('pair', 'matchup') }} as result_id,
        {{ known_protocol('known.by_turn') }} as by_turn,
        {{ known_protocol('known.default_rule') }} as default_rule
    from results
    left join {{ source('lake', 'judge_protocols') }} as known using (protocol)
),

expected as (
    select
        named.* exclude (turns, by_turn),
        question.question_id,
        question.category,
        unnest(
            case
                when named.source = 'imported'
                    then list_filter(
                        list_sort(named.turns), lambda turn: turn <= len(question.turns)
                    )
                when named.by_turn then range(1, len(question.turns) + 1)
                else [0::bigint]
            end
        ) as turn
    from named
    inner join {{ source('lake', 'benchmark_questions') }} as question using (benchmark)
),

judged as (
    select
        result_key,
        question_id,
        turn,
        max(winner) filter (where shown_first = 'a' and status = 'ok') as winner_a_first,
        max(winner) filter (where shown_first = 'b' and status = 'ok') as winner_b_first,
        max(score_a) filter (where shown_first = 'a' and status = 'ok') as score_a_a_first,
        max(score_b) filter (where shown_first = 'a' and status = 'ok') as score_b_a_first,
        max(score_a) filter (where shown_first = 'b' and status = 'ok') as score_a_b_first,
        max(score_b) filter (where shown_first = 'b' and status = 'ok') as score_b_b_first,
        max(status) filter (where shown_first = 'a') as status_a_first,
        max(status) filter (where shown_first = 'b') as status_b_first,
        max(reply_id) filter (where shown_first = 'a') as reply_a_first,
        max(reply_id) filter (where shown_first = 'b') as reply_b_first,
        max(file) as file,
        max(row) filter (where shown_first <> 'b') as row_a_first,
        max(row) filter (where shown_first = 'b') as row_b_first,
        max(winner) filter (where shown_first in ('merged', 'unknown') and status = 'ok') as winner,
        max(status) filter (where shown_first in ('merged', 'unknown')) as status_of_one,
        bool_or(orders_disagree) filter (where shown_first = 'merged') as orders_disagree
    from pair_verdicts
    where state = 'used'
    group by all
),

joined as (
    select
        expected.*,
        judged.* exclude (result_key, question_id, turn, status_a_first, status_b_first),
        expected.orders <> 'both' or (
            judged.status_of_one is not null
            and judged.status_a_first is null
            and judged.status_b_first is null
        ) as one_outcome,
        coalesce(judged.status_a_first, judged.status_of_one, 'missing') as status_a_first,
        coalesce(judged.status_b_first, judged.status_of_one, 'missing') as status_b_first
    from expected
    left join judged using (result_key, question_id, turn)
),

counted as (
    select
        *,
        {{ judged_status('status_a_first', 'status_b_first') }} as status,
        coalesce(winner_a_first = 'a', false)::int + coalesce(winner_b_first = 'a', false)::int
            as wins_a,
        coalesce(winner_a_first = 'b', false)::int + coalesce(winner_b_first = 'b', false)::int
            as wins_b,
        case winner when 'a' then 'win' when 'b' then 'lose' when 'tie' then 'tie' end as said
    from joined
),

merged as (
    select
        *,
        case
            when status <> 'ok' then null
            when one_outcome then said
            when wins_a = 2 then 'win'
            when wins_b = 2 then 'lose'
            else 'tie'
        end as both_agree,
        case
            when status <> 'ok' then null
            when one_outcome then said
            when wins_a > 0 and wins_b = 0 then 'win'
            when wins_b > 0 and wins_a = 0 then 'lose'
            else 'tie'
        end as win_or_tie,
        case
            when status <> 'ok' then null
            when one_outcome then said
            when score_a_a_first + score_a_b_first > score_b_a_first + score_b_b_first then 'win'
            when score_a_a_first + score_a_b_first < score_b_a_first + score_b_b_first then 'lose'
            when score_a_a_first + score_a_b_first = score_b_a_first + score_b_b_first then 'tie'
        end as sum_of_scores
    from counted
)

select
    result_id, source, dataset, matchup, benchmark, question_id, category, turn, model_a, model_b,
    judge, protocol, reading, prompt_version, sampling, orders, one_outcome, status, both_agree,
    win_or_tie, sum_of_scores, default_rule,
    {{ outcome_by('default_rule') }} as outcome,
    coalesce(winner_a_first = winner_b_first, not orders_disagree) as orders_agree,
    winner_a_first, winner_b_first, score_a_a_first, score_b_a_first, score_a_b_first,
    score_b_b_first, status_a_first, status_b_first, reply_a_first, reply_b_first, file,
    row_a_first, row_b_first,
    {{ filled_by_embedded(['judge']) }} as filled_by_embedded,
    {{ embedded_note(['judge']) }} as note
from merged
