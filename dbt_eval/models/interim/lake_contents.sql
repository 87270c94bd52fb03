-- One row a file of the lake that models read, as it was when the warehouse was built. A file without
-- rows says that its partition was looked at, and nothing was found.
{#- The lake stands in the variable as inside a format string, where braces are doubled. -#}
{%- set lake = env_var("OPENCS_DBT_LAKE") | replace("{" ~ "{", "{") | replace("}" ~ "}", "}") %}
with files as (
    select
        -- From the table's folder on: the folders behind it name the partition.
        regexp_extract(filename, '[^/]+(/[^/=]+=[^/]*)*/[^/]+$') as file,
        size,
        last_modified
    from read_blob('{{ lake }}/*/**/*.parquet')
)

select
    split_part(file, '/', 1) as lake_table,
    file,
    regexp_extract(file, '/dataset=([^/]*)/', 1) as dataset,
    size,
    last_modified
from files
where lake_table in ('{{ graph.sources.values() | map(attribute="name") | join("', '") }}')
