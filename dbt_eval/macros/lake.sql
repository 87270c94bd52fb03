{#- Tables that only other tables are made of stand in a schema of their own. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}

{#- Rows of a lake table that are to be read: all of them, or in an incremental build those of the
    files that are new or replaced (`interim.changed_files` names them, see
    `opencs_assets/evaluation/lake_files.py`). The zero-row file is always among them. -#}
{% macro lake_rows(table) -%}
    {%- set everything = source('lake', table) -%}
    {%- if execute and is_incremental() -%}
        {%- set files = run_query(
            "select replace(file, '''', '''''') from interim.changed_files where lake_table = '"
            ~ table ~ "' and change <> 'removed' order by file"
        ).columns[0].values() -%}
        read_parquet(
            [{% for file in files %}'{{ file }}'{{ ', ' if not loop.last }}{% endfor %}],
            hive_partitioning = true, hive_types_autocast = false, union_by_name = true
        )
    {%- else -%}
        {{ everything }}
    {%- endif -%}
{%- endmacro %}

{#- Whether a row's partition has changed: of a lake table with two dimensions (`dataset` and
    `subject` stand for them), or of an unpartitioned one, whose both are empty. -#}
{% macro has_changed(tables, dataset, subject) -%}
    row({{ dataset }}, {{ subject }}) in (
        select row(changed.dataset, changed.subject)
        from interim.changed_files as changed
        where
            changed.lake_table in ('{{ tables | join("', '") }}')
            and changed.change <> 'schema'
    )
{%- endmacro %}
