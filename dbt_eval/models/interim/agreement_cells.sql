-- How often the votes of two judges about the same question, turn and models met. A judge's vote is
-- its result's outcome by the default rule; each of a group of people votes by itself.
with vote_groups as (
    {{ vote_groups() }}
),

met as (
    -- Two results may meet among their dataset's and among imported ones.
    select distinct
        one.group_id as group_a,
        other.group_id as group_b,
        one.benchmark,
        one.judge as judge_a,
        other.judge as judge_b
    from vote_groups as one
    inner join vote_groups as other using (pool, benchmark, model_1, model_2)
    where
        one.judge <> other.judge
        -- People are the second judge, others go by name.
        and (one.is_human, one.judge) < (other.is_human, other.judge)
),

wanted as (
    select group_a as group_id from met
    union
    select group_b from met
),

votes as (
    select
        result_id as group_id,
        question_id,
        turn,
        case outcome when 'win' then 1 when 'tie' then 0 when 'lose' then -1 end
        * if(model_a < model_b, 1, -1) as vote
    from {{ ref('pair_outcomes') }}
    where status = 'ok' and result_id in (from wanted)
    union all
    select group_id, question_id, turn, vote
    from (
        select
            {{ vote_group_id() }} as group_id,
            question_id,
            turn,
            case winner when 'a' then 1 when 'tie' then 0 when 'b' then -1 end
            * if(model_a < model_b, 1, -1) as vote
        from {{ source('lake', 'imported_verdicts') }}
        where is_human and kind = 'pair' and state = 'used' and status = 'ok'
    )
    where group_id in (from wanted)
)

select
    met.group_a, met.group_b, met.benchmark, met.judge_a, met.judge_b, one.turn,
    one.vote as vote_a,
    other.vote as vote_b,
    count(*) as often
from met
inner join votes as one on met.group_a = one.group_id
inner join votes as other
    on
        met.group_b = other.group_id
        and one.question_id = other.question_id
        and one.turn = other.turn
where one.vote is not null and other.vote is not null
group by all
