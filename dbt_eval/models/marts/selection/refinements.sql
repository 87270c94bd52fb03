select
    refined.dataset,
    refined.refined as selector,
    refined.rank, refined.sample_id, refined.instruction_before, refined.instruction,
    refined.response_before, refined.response, refined.instruction_status, refined.response_status,
    concat_ws(
        '; ',
        'response: ' || refined.response_detail,
        'instruction: ' || refined.instruction_detail
    ) as left_because,
    refined.response_reply_id,
    refined.instruction_reply_id,
    refined.model as refiner_model,
    refined.prompt_version,
    {{ filled_by_embedded(['refined.model']) }} as filled_by_embedded,
    {{ embedded_note(['refined.model']) }} as note
from {{ source('lake', 'refined_samples') }} as refined
order by refined.dataset, refined.refined, refined.rank
