select file_name, row, reason, detail, excerpt, file, null::varchar as note
from {{ source('lake', 'rejected_verdicts') }}
order by file_name, row
