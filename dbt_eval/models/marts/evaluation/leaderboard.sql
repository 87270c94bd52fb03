with boards as (
    select distinct
        source, dataset, benchmark, judge, protocol, reading, prompt_version, sampling,
        hash(source, dataset, benchmark, judge, protocol, reading, prompt_version, sampling) as board
    from {{ ref('results') }}
    where kind = 'pair'
),

members as (
    select
        boards.board,
        results.result_id,
        unnest([results.model_a, results.model_b]) as model
    from {{ ref('results') }} as results
    inner join {{ ref('result_badges') }} as badges using (result_id)
    inner join boards using (
        source, dataset, benchmark, judge, protocol, reading, prompt_version, sampling
    )
    where results.kind = 'pair' and badges.badge = 'ok'
),

met as (
    select
        members.board,
        members.model,
        count(distinct members.result_id) as matchups,
        sum(cells.decided)::bigint as questions
    from members
    inner join {{ ref('pair_cells') }} as cells using (result_id)
    group by all
)

select
    boards.dataset, boards.benchmark, boards.judge, boards.protocol, boards.reading,
    boards.prompt_version, boards.sampling, boards.source,
    rank() over (
        partition by ratings.board, ratings.component order by ratings.rating desc
    ) as rank,
    ratings.model, ratings.rating, ratings.ci_low, ratings.ci_high, met.matchups, met.questions,
    ratings.component,
    {{ filled_by_embedded(['boards.judge']) }} as filled_by_embedded,
    {{ embedded_note(['boards.judge']) }} as note
from {{ ref('ratings') }} as ratings
inner join boards using (board)
inner join met using (board, model)
order by
    boards.source, boards.dataset, boards.benchmark, boards.judge, boards.protocol,
    boards.reading, boards.prompt_version, boards.sampling, ratings.component, rank, ratings.model
