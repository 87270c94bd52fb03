-- Ten rules that a result must not break to be published; of each, what is wrong in plain words.
-- `passed` is null where the lake does not hold what it takes to tell.
with results as (
    select * from {{ ref('results') }}
),

-- Calls of the judge by result, turn and category; one a turn where answers are judged alone.
cells as (
    select
        result_id, turn, category, questions, calls, calls_judged as judged,
        calls_stopped as stopped, calls_unparsable as unparsable,
        judged_a_first, judged_b_first, only_a_first, only_b_first, orders, orders_known, decided
    from {{ ref('pair_cells') }}
    union all by name
    select result_id, turn, category, questions, questions as calls, judged, stopped, unparsable
    from {{ ref('single_cells') }}
),

totals as (
    select
        result_id,
        sum(calls)::bigint as calls,
        sum(judged)::bigint as judged,
        sum(calls - judged - stopped)::bigint as missing,
        sum(unparsable)::bigint as unparsable,
        sum(only_a_first)::bigint as only_a_first,
        sum(only_b_first)::bigint as only_b_first,
        sum(orders_known)::bigint as orders_known,
        sum(decided)::bigint as decided,
        -- Equal shares of every turn and category are judged, in each order.
        count(distinct judged / nullif(calls - stopped, 0)) <= 1
        and coalesce(bool_and(judged_a_first = judged_b_first), true) as is_equal
    from cells
    group by result_id
),

turns as (
    select
        result_id, turn, sum(judged)::bigint as judged, sum(calls - stopped)::bigint as wanted
    from cells
    group by all
),

categories as (
    select
        result_id, category, sum(judged)::bigint as judged, sum(calls - stopped)::bigint as wanted
    from cells
    group by all
),

uneven_turns as (
    select
        result_id,
        list(struct_pack(turn := turn, n := wanted - judged) order by turn) filter (
            where wanted > judged
        ) as missing,
        string_agg(
            'turn ' || turn || ': ' || judged || ' of ' || wanted, ', ' order by turn
        ) as mix,
        count(distinct judged / nullif(wanted, 0)) > 1 as is_uneven
    from turns
    group by result_id
),

uneven_categories as (
    select
        result_id,
        string_agg(category || ': ' || judged || ' of ' || wanted, ', ' order by category) as mix,
        count(distinct judged / nullif(wanted, 0)) > 1 as is_uneven
    from categories
    group by result_id
),

every_judgment as (
    select
        totals.result_id,
        'every_judgment' as rule,
        totals.missing = 0 as passed,
        totals.missing || ' of ' || totals.calls || ' judgments are missing'
        || {{ by_turn('uneven_turns.missing') }} as reason
    from totals
    inner join uneven_turns using (result_id)
),

few_unparsable as (
    select
        result_id,
        'few_unparsable' as rule,
        case when judged > 0 then unparsable <= {{ var('unparsable_limit') }} * judged end as passed,
        if(
            judged = 0,
            'nothing is judged',
            unparsable || ' of ' || judged
            || ' judgments could not be read, more than {{ (100 * var('unparsable_limit')) | round | int }} %'
        ) as reason
    from totals
),

both_orders as (
    select
        result_id,
        'both_orders' as rule,
        case results.orders
            when 'both' then only_a_first + only_b_first = 0
            when 'merged' then if(orders_known = decided, true, null)
        end as passed,
        case results.orders
            when 'both'
                then
                    only_a_first + only_b_first || ' questions were judged in one order only: '
                    || only_a_first || ' with ' || results.model_a || ' first, '
                    || only_b_first || ' with ' || results.model_b || ' first'
            when 'merged'
                then
                    'the file does not say of ' || decided - orders_known
                    || ' outcomes whether two orders agreed'
            else 'the file does not say whose answer was shown first'
        end as reason
    from totals
    inner join results using (result_id)
    where results.kind = 'pair'
),

equal_mix as (
    select
        result_id,
        'equal_mix' as rule,
        totals.is_equal as passed,
        case
            when uneven_turns.is_uneven
                then 'unequal shares of the turns are judged (' || uneven_turns.mix || ')'
            when uneven_categories.is_uneven
                then 'unequal shares of the categories are judged (' || uneven_categories.mix || ')'
            else 'unequal shares of the categories are judged in the two orders'
        end as reason
    from totals
    inner join uneven_turns using (result_id)
    inner join uneven_categories using (result_id)
),

-- What a result lacks, and another result of the same answers has.
lacking as (
    select
        other.result_id as other_id, results.result_id,
        results.judge <> other.judge as is_other_judge,
        results.prompt_version <> other.prompt_version
        or results.protocol <> other.protocol
        or results.reading <> other.reading as is_other_prompt,
        other.judge, other.protocol, other.prompt_version, other.sampling
    from results
    inner join results as other using (kind, source, dataset, subject, benchmark)
    where results.result_id <> other.result_id and results.missing > 0
),

-- Each call that is not judged, and each that is, of the results that are compared.
pair_calls as (
    select
        result_id, question_id, turn,
        -- Where a file holds one outcome of both orders, it is one judgment.
        unnest(if(one_outcome, ['a'], ['a', 'b'])) as shown_first,
        unnest(
            if(
                one_outcome,
                [{{ is_judged('status_a_first') }}],
                [{{ is_judged('status_a_first') }}, {{ is_judged('status_b_first') }}]
            )
        ) as is_judged
    from {{ ref('pair_outcomes') }}
    where
        result_id in (select result_id from lacking)
        or result_id in (select other_id from lacking)
),

calls as (
    select * from pair_calls
    union all
    select result_id, question_id, turn, 'a', status in ('ok', 'unparsable')
    from {{ ref('single_outcomes') }}
    where
        result_id in (select result_id from lacking)
        or result_id in (select other_id from lacking)
),

judged_elsewhere as (
    select
        lacking.result_id,
        count(*) || ' missing judgments were made '
        || case
            when lacking.is_other_judge then 'by another judge, ' || lacking.judge
            when lacking.is_other_prompt
                then
                    'with another prompt, ' || lacking.protocol || ' '
                    || lacking.prompt_version
            else 'with another sampling, ' || lacking.sampling
        end as reason
    from lacking
    inner join calls as own on lacking.result_id = own.result_id
    inner join calls as others
        on
            lacking.other_id = others.result_id
            and own.question_id = others.question_id
            and own.turn = others.turn
            and own.shown_first = others.shown_first
    where not own.is_judged and others.is_judged
    group by
        lacking.result_id, lacking.other_id, lacking.is_other_judge, lacking.is_other_prompt,
        lacking.judge, lacking.protocol, lacking.prompt_version, lacking.sampling
),

same_judge as (
    select
        results.result_id,
        'same_judge' as rule,
        count(elsewhere.reason) = 0 as passed,
        string_agg(elsewhere.reason, ', ' order by elsewhere.reason) as reason
    from results
    left join judged_elsewhere as elsewhere using (result_id)
    group by results.result_id
),

sides as (
    select
        result_id, kind, source, dataset, benchmark, orders,
        unnest(if(kind = 'pair', [model_a, model_b], [model_a])) as model
    from results
),

models as (
    select distinct source, dataset, benchmark, model from sides
),

asked as (
    select benchmark, turn, count(*) as questions
    from {{ ref('stg_question_turns') }}
    group by all
),

answer_turns as (
    select answer.pool, answer.model, answer.benchmark, answer.checkpoint,
        unnest(answer.answered) as turn
    from {{ ref('answers') }} as answer
    semi join {{ source('lake', 'benchmark_questions') }} using (benchmark, question_id)
),

answered as (
    select pool, model, benchmark, turn, count(*) as answers
    from answer_turns
    group by all
),

-- Turns of whose questions a model has too few answers.
gaps as (
    select
        models.source, models.dataset, models.benchmark, models.model,
        sum(coalesce(answered.answers, 0))::bigint as answers,
        sum(asked.questions)::bigint as wanted,
        sum(greatest(asked.questions - coalesce(answered.answers, 0), 0))::bigint as missing,
        list(
            struct_pack(turn := asked.turn, n := asked.questions - coalesce(answered.answers, 0))
            order by asked.turn
        ) filter (where asked.questions > coalesce(answered.answers, 0)) as missing_turns
    from models
    inner join asked using (benchmark)
    left join answered
        on
            models.model = answered.model
            and models.benchmark = answered.benchmark
            and asked.turn = answered.turn
            and (
                models.dataset = answered.pool
                or (models.source = 'judged' and answered.pool = '(outside)')
            )
    group by all
),

answers_complete as (
    select
        sides.result_id,
        'answers_complete' as rule,
        case
            when bool_or(gaps.missing > 0 and (gaps.answers > 0 or sides.source = 'judged'))
                then false
            when bool_and(gaps.missing = 0) then true
        end as passed,
        string_agg(
            if(
                gaps.answers = 0,
                'no answer of ' || sides.model || ' is in the lake',
                gaps.missing || ' of ' || gaps.wanted || ' answers of ' || sides.model
                || ' are missing' || {{ by_turn('gaps.missing_turns') }}
            ),
            ', ' order by sides.model
        ) filter (where gaps.missing > 0) as reason
    from sides
    inner join gaps using (source, dataset, benchmark, model)
    group by sides.result_id
),

trained as (
    select * from {{ ref('trained_models') }}
),

budgets as (
    select
        results.result_id, results.source, results.model_a, results.model_b, declared.parity,
        coalesce(side_a.is_outside, false) as outside_a,
        coalesce(side_b.is_outside, false) as outside_b,
        case declared.parity
            when 'epochs' then one.epochs when 'steps' then one.steps when 'tokens' then one.tokens
        end as amount_a,
        case declared.parity
            when 'epochs' then other.epochs
            when 'steps' then other.steps
            when 'tokens' then other.tokens
        end as amount_b
    from results
    left join {{ source('lake', 'declared_matchups') }} as declared
        on results.source = 'judged' and results.subject = declared.matchup
    left join {{ source('lake', 'declared_models') }} as side_a on results.model_a = side_a.model
    left join {{ source('lake', 'declared_models') }} as side_b on results.model_b = side_b.model
    left join trained as one on results.dataset = one.dataset and results.model_a = one.model
    left join trained as other on results.dataset = other.dataset and results.model_b = other.model
    where results.kind = 'pair'
),

-- Steps are counted exactly. A training ends with a whole step, which may be a little beyond the
-- epochs or tokens that were asked for.
parity as (
    select
        result_id,
        'parity' as rule,
        case
            when source = 'imported' or parity is null then null
            when parity = 'declared' then true
            when parity = 'steps' then amount_a = amount_b
            else abs(amount_a - amount_b) <= {{ var('parity_tolerance') }} * greatest(amount_a, amount_b)
        end as passed,
        case
            when source = 'imported' then 'imported: how the models were trained is not known'
            when parity is null then 'the matchup is not declared any more'
            when parity = 'declared' then 'declared: each side has its own budget'
            when outside_a or outside_b
                then if(outside_a, model_a, model_b) || ' is not trained here'
            when amount_a is null or amount_b is null
                then
                    'no checkpoint of ' || if(amount_a is null, model_a, model_b)
                    || ' is in the lake'
            else
                model_a || ' was trained for ' || format('{:g}', amount_a::double) || ' ' || parity
                || ', ' || model_b || ' for ' || format('{:g}', amount_b::double)
                || if(
                    parity = 'steps',
                    '',
                    ', which is more than {{ (100 * var('parity_tolerance')) | round | int }} % apart'
                )
        end as reason
    from budgets
),

from_checkpoint as (
    select
        answer.pool as dataset,
        answer.model,
        answer.benchmark,
        count(*) as answers,
        count(*) filter (where answer.checkpoint = trained.provenance) as of_current,
        any_value(trained.provenance) as provenance
    from {{ ref('answers') }} as answer
    left join trained on answer.pool = trained.dataset and answer.model = trained.model
    where answer.pool not in ('(outside)', '(imported)')
    group by all
),

stale as (
    select
        sides.result_id,
        string_agg(
            if(
                origin.provenance is null,
                'no checkpoint of ' || sides.model || ' is in the lake',
                origin.answers - origin.of_current || ' of ' || origin.answers || ' answers of '
                || sides.model || ' are not from its current checkpoint'
            ),
            ', ' order by sides.model
        ) filter (where origin.answers > origin.of_current) as reason
    from sides
    left join from_checkpoint as origin using (dataset, benchmark, model)
    where sides.source = 'judged'
    group by sides.result_id
),

chat_template as (
    select
        results.result_id,
        'chat_template' as rule,
        case
            when results.source = 'imported' then null
            else
                stale.reason is null
                and not (
                    one.base_model is not distinct from other.base_model
                    and coalesce(one.template_hash <> other.template_hash, false)
                )
        end as passed,
        case
            when results.source = 'imported' then 'imported: how the models were asked is not known'
            when stale.reason is not null then stale.reason
            else
                'chat templates differ: ' || results.model_a || ' has '
                || left(one.template_hash, 8) || ', ' || results.model_b || ' has '
                || left(other.template_hash, 8)
        end as reason
    from results
    left join stale using (result_id)
    left join trained as one on results.dataset = one.dataset and results.model_a = one.model
    left join trained as other on results.dataset = other.dataset and results.model_b = other.model
),

looked_at as (
    select distinct dataset
    from {{ ref('lake_contents') }}
    where lake_table = 'contaminated_samples'
),

matches as (
    select
        subset.dataset,
        subset.selector,
        contaminated.benchmark,
        count(distinct contaminated.sample_id) as samples,
        count(distinct contaminated.question_id) as questions
    from {{ source('lake', 'contaminated_samples') }} as contaminated
    inner join {{ source('lake', 'selected_subset') }} as subset using (dataset, sample_id)
    group by all
),

no_contamination as (
    select
        sides.result_id,
        'no_contamination' as rule,
        case
            when sides.source = 'imported' then null
            when bool_or(matches.samples > 0) then false
            when sides.dataset in (from looked_at) then true
        end as passed,
        case
            when sides.source = 'imported'
                then 'imported: what the models were trained on is not known'
            else
                coalesce(
                    string_agg(
                        matches.samples || ' samples of the subset of ' || sides.model || ' match '
                        || matches.questions || ' questions of ' || sides.benchmark,
                        ', ' order by sides.model
                    ) filter (where matches.samples > 0),
                    'contaminated_samples of ' || sides.dataset || ' was never materialized'
                )
        end as reason
    from sides
    left join trained using (dataset, model)
    left join {{ source('lake', 'declared_models') }} as declared on sides.model = declared.model
    left join matches
        on
            sides.dataset = matches.dataset
            and coalesce(trained.selector, declared.selector) = matches.selector
            and sides.benchmark = matches.benchmark
    group by sides.result_id, sides.source, sides.dataset
),

conflicts as (
    select result_id, count(*) as verdicts, list(distinct file_name) as files
    from {{ ref('conflicting_verdicts') }}
    group by result_id
),

no_conflicts as (
    select
        results.result_id,
        'no_conflicts' as rule,
        conflicts.verdicts is null as passed,
        conflicts.verdicts || ' verdicts contradict each other, of ' || array_to_string(list_sort(conflicts.files), ', ')
        || '; none of them counts until a person chooses: opencs prefer-verdicts FILE' as reason
    from results
    left join conflicts using (result_id)
),

rules as (
    select * from every_judgment
    union all select * from few_unparsable
    union all select * from both_orders
    union all select * from equal_mix
    union all select * from same_judge
    union all select * from answers_complete
    union all select * from parity
    union all select * from chat_template
    union all select * from no_contamination
    union all select * from no_conflicts
)

select
    results.result_id, results.kind, results.source, results.dataset, results.subject,
    results.benchmark, results.judge, rules.rule, rules.passed,
    case
        when rules.passed is distinct from true or rules.reason like 'declared:%' then rules.reason
    end as reason
from rules
inner join results using (result_id)
order by
    results.kind, results.source, results.dataset, results.subject, results.benchmark,
    results.result_id, list_position({{ gate_rules() }}, rules.rule)
