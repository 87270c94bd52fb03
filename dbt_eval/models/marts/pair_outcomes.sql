-- Every question that the matchup's benchmark has stands here, judged or not: what is missing is
-- seen, not averaged over. Verdicts of another judge, reading or prompt are another result.
with results as (
    select distinct dataset, matchup, benchmark, model_a, model_b, judge, reading, prompt_version
    from {{ source('lake', 'pairwise_verdicts') }}
),

expected as (
    select results.*, question.question_id, question.category
    from results
    inner join {{ source('lake', 'benchmark_questions') }} as question using (benchmark)
),

orders as (
    select
        dataset, matchup, benchmark, model_a, model_b, judge, reading, prompt_version, question_id,
        max(winner) filter (where shown_first = 'a' and status = 'ok') as winner_a_first,
        max(winner) filter (where shown_first = 'b' and status = 'ok') as winner_b_first,
        max(score_a) filter (where shown_first = 'a' and status = 'ok') as score_a_a_first,
        max(score_b) filter (where shown_first = 'a' and status = 'ok') as score_b_a_first,
        max(score_a) filter (where shown_first = 'b' and status = 'ok') as score_a_b_first,
        max(score_b) filter (where shown_first = 'b' and status = 'ok') as score_b_b_first,
        coalesce(max(status) filter (where shown_first = 'a'), 'missing') as status_a_first,
        coalesce(max(status) filter (where shown_first = 'b'), 'missing') as status_b_first,
        max(reply_id) filter (where shown_first = 'a') as reply_a_first,
        max(reply_id) filter (where shown_first = 'b') as reply_b_first
    from {{ source('lake', 'pairwise_verdicts') }}
    group by all
),

counted as (
    select
        expected.*,
        orders.* exclude (
            dataset, matchup, benchmark, model_a, model_b, judge, reading, prompt_version,
            question_id, status_a_first, status_b_first
        ),
        coalesce(orders.status_a_first, 'missing') as status_a_first,
        coalesce(orders.status_b_first, 'missing') as status_b_first,
        {{ judged_status('status_a_first', 'status_b_first') }} as status,
        (winner_a_first = 'a')::int + (winner_b_first = 'a')::int as wins_a,
        (winner_a_first = 'b')::int + (winner_b_first = 'b')::int as wins_b
    from expected
    left join orders using (
        dataset, matchup, benchmark, model_a, model_b, judge, reading, prompt_version, question_id
    )
)

select
    dataset,
    matchup,
    benchmark,
    question_id,
    category,
    model_a,
    model_b,
    judge,
    reading,
    prompt_version,
    status,
    case
        when status <> 'ok' then null
        when wins_a = 2 then 'win'
        when wins_b = 2 then 'lose'
        else 'tie'
    end as both_agree,
    case
        when status <> 'ok' then null
        when wins_a > 0 and wins_b = 0 then 'win'
        when wins_b > 0 and wins_a = 0 then 'lose'
        else 'tie'
    end as win_or_tie,
    case
        when status <> 'ok' then null
        when score_a_a_first + score_a_b_first > score_b_a_first + score_b_b_first then 'win'
        when score_a_a_first + score_a_b_first < score_b_a_first + score_b_b_first then 'lose'
        when score_a_a_first + score_a_b_first = score_b_a_first + score_b_b_first then 'tie'
    end as sum_of_scores,
    winner_a_first = winner_b_first as orders_agree,
    winner_a_first,
    winner_b_first,
    score_a_a_first,
    score_b_a_first,
    score_a_b_first,
    score_b_b_first,
    status_a_first,
    status_b_first,
    reply_a_first,
    reply_b_first,
    {{ filled_by_embedded(['judge']) }} as filled_by_embedded,
    {{ embedded_note(['judge']) }} as note
from counted
order by dataset, matchup, benchmark, question_id
